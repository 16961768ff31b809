//! `k8slab.capi.binary_fetch` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<binary_fetch::BinaryFetch>()
}
