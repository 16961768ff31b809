//! `k8slab.capi.helm_release` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<helm_release::HelmRelease>()
}
