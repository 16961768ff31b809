//! `k8slab.capi.bootstrap_k3s` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<bootstrap_k3s::BootstrapK3s>()
}
