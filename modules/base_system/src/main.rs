//! `k8slab.capi.base_system` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<base_system::BaseSystem>()
}
