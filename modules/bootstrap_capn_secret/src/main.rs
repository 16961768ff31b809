//! `k8slab.capi.bootstrap_capn_secret` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<bootstrap_capn_secret::BootstrapCapnSecret>()
}
