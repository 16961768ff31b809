//! `k8slab.capi.export_artifacts` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<export_artifacts::ExportArtifacts>()
}
