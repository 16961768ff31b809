//! `k8slab.capi.lxd_host` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<lxd_host::LxdHost>()
}
