//! `k8slab.capi.lab_plan` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<lab_plan::LabPlan>()
}
