//! `k8slab.capi.pivot_clusterctl_move` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<pivot_clusterctl_move::PivotClusterctlMove>()
}
