//! `k8slab.capi.lxd_profiles` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<lxd_profiles::LxdProfiles>()
}
