//! `k8slab.capi.cluster_kubeconfig` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<cluster_kubeconfig::ClusterKubeconfig>()
}
