//! `k8slab.capi.bootstrap_clusterctl` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<bootstrap_clusterctl::BootstrapClusterctl>()
}
