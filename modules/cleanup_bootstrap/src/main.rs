//! `k8slab.capi.cleanup_bootstrap` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<cleanup_bootstrap::CleanupBootstrap>()
}
