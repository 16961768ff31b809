//! `k8slab.capi.lab_facts` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<lab_facts::LabFacts>()
}
