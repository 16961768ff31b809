//! `k8slab.capi.cluster_class_prune` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<cluster_class_prune::ClusterClassPrune>()
}
