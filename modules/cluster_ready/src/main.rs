//! `k8slab.capi.cluster_ready` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<cluster_ready::ClusterReady>()
}
