//! `k8slab.capi.lxd_network_int_managed` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<lxd_network_int_managed::LxdNetworkIntManaged>()
}
