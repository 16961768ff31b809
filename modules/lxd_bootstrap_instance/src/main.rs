//! `k8slab.capi.lxd_bootstrap_instance` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<lxd_bootstrap_instance::LxdBootstrapInstance>()
}
