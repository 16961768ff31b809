//! `k8slab.capi.lab_destroy` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<lab_destroy::LabDestroy>()
}
