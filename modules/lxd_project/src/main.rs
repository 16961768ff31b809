//! `k8slab.capi.lxd_project` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<lxd_project::LxdProject>()
}
