//! `k8slab.capi.lxd_storage_pools` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<lxd_storage_pools::LxdStoragePools>()
}
