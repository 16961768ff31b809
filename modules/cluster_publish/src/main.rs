//! `k8slab.capi.cluster_publish` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<cluster_publish::ClusterPublish>()
}
