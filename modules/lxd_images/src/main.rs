//! `k8slab.capi.lxd_images` as a program.

fn main() -> std::process::ExitCode {
    ansible::main::<lxd_images::LxdImages>()
}
