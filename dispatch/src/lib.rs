//! The list of all steps. Every step's own executable works alone; a collection carries them as one, since most of what they
//! hold is the same.

use ansible::Entry;

/// Every step, in the order in which a lab comes up.
#[must_use]
pub fn steps() -> Vec<Entry> {
    vec![
        Entry::of::<lab_facts::LabFacts>(),
        Entry::of::<lab_plan::LabPlan>(),
        Entry::of::<base_system::BaseSystem>(),
        Entry::of::<lxd_host::LxdHost>(),
        Entry::of::<lxd_project::LxdProject>(),
        Entry::of::<lxd_storage_pools::LxdStoragePools>(),
        Entry::of::<lxd_network_int_managed::LxdNetworkIntManaged>(),
        Entry::of::<lxd_profiles::LxdProfiles>(),
        Entry::of::<lxd_images::LxdImages>(),
        Entry::of::<lxd_bootstrap_instance::LxdBootstrapInstance>(),
        Entry::of::<binary_fetch::BinaryFetch>(),
        Entry::of::<bootstrap_k3s::BootstrapK3s>(),
        Entry::of::<bootstrap_clusterctl::BootstrapClusterctl>(),
        Entry::of::<bootstrap_capn_secret::BootstrapCapnSecret>(),
        Entry::of::<helm_release::HelmRelease>(),
        Entry::of::<cluster_ready::ClusterReady>(),
        Entry::of::<cluster_kubeconfig::ClusterKubeconfig>(),
        Entry::of::<cluster_publish::ClusterPublish>(),
        Entry::of::<cluster_class_prune::ClusterClassPrune>(),
        Entry::of::<export_artifacts::ExportArtifacts>(),
        Entry::of::<pivot_clusterctl_move::PivotClusterctlMove>(),
        Entry::of::<cleanup_bootstrap::CleanupBootstrap>(),
        Entry::of::<lab_destroy::LabDestroy>(),
    ]
}
