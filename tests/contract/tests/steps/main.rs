//! Every step's executable against every LXD. One program, so that tests of different steps run side by side: most wait for LXD.

mod base_system;
mod binary_fetch;
mod bootstrap_capn_secret;
mod bootstrap_clusterctl;
mod bootstrap_k3s;
mod cluster_kubeconfig;
mod cluster_publish;
mod cluster_ready;
mod export_artifacts;
mod harness;
mod lab_destroy;
mod lab_facts;
mod lab_plan;
mod lxd_bootstrap_instance;
mod lxd_host;
mod lxd_images;
mod lxd_network_int_managed;
mod lxd_profiles;
mod lxd_project;
mod lxd_storage_pools;
mod scripted_lxd;
