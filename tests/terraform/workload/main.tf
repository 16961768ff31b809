# One workload cluster on the lab of this repository. The variables are the lab's settings, as export_artifacts writes them, so that
# its mgmt.auto.tfvars.json can be given by -var-file.

terraform {
  required_version = ">= 1.9"

  # Where the state is, is said by `init -backend-config=path=...`; without it, here.
  backend "local" {}

  required_providers {
    kubernetes = { source = "hashicorp/kubernetes", version = ">= 2.30" }
    helm       = { source = "hashicorp/helm", version = ">= 3.0" }
  }
}

provider "kubernetes" {
  alias       = "mgmt"
  config_path = local.mgmt_kubeconfig_path
}

provider "helm" {
  alias      = "mgmt"
  kubernetes = { config_path = local.mgmt_kubeconfig_path }
}

provider "helm" {
  alias      = "workload"
  kubernetes = module.workload_cluster.connection
}

locals {
  mgmt_kubeconfig_path = abspath(coalesce(
    var.mgmt_kubeconfig_path, var.k8s_lab_mgmt_kubeconfig_path, "${path.module}/../../../.artifacts/mgmt.kubeconfig",
  ))
  # With a bundle, images are aliases of LXD itself, and the CRDs are files of it.
  bundled   = var.k8s_lab_bundle != ""
  manifests = "${var.k8s_lab_bundle}/manifests"
}

module "workload_cluster" {
  source    = "../../../terraform/modules/workload_cluster"
  providers = { kubernetes.mgmt = kubernetes.mgmt, helm.mgmt = helm.mgmt, helm.workload = helm.workload }

  mgmt_kubeconfig_path       = local.mgmt_kubeconfig_path
  cluster_name               = var.k8s_lab_workload_cluster_name
  kubernetes_version         = var.k8s_lab_kubernetes_version
  controlplane_count         = var.k8s_lab_workload_controlplane_count
  worker_count               = var.k8s_lab_workload_worker_count
  pod_cidrs                  = var.k8s_lab_workload_pod_cidrs
  service_cidrs              = var.k8s_lab_workload_service_cidrs
  metallb_vip_range_v6       = var.k8s_lab_workload_vip_range
  external_prefix_v6         = var.k8s_lab_external_ipv6_prefix
  taken_ranges               = var.taken_ranges
  infrastructure_secret_name = var.k8s_lab_infrastructure_secret_name
  lxd_host_address           = var.k8s_lab_lxd_host_address
  publish_command            = var.publish_command
  unpublish_command          = var.unpublish_command

  image_controlplane_ref = local.bundled ? "kubeadm/VERSION" : "capi:kubeadm/VERSION"
  image_worker_ref       = local.bundled ? "kubeadm/VERSION" : "capi:kubeadm/VERSION"
  load_balancer          = local.bundled ? { lxc = { image = { name = "haproxy", server = "", protocol = "" } } } : null
  cni_values = local.bundled ? {
    installer = "manifest"
    manifest  = { crds = file("${local.manifests}/calico-crds/v3.28.5/calico-crds.yaml") }
  } : null
  metallb_values = local.bundled ? { metallb = { crds = { manifest = file("${local.manifests}/metallb/v0.15.3/metallb.yaml") } } } : null

  wait                  = var.wait
  gates                 = var.gates
  control_plane_timeout = var.control_plane_timeout
}

output "cluster_name" {
  value = module.workload_cluster.cluster_name
}

output "cluster_class_name" {
  value = module.workload_cluster.cluster_class_name
}

output "api_proxy_port" {
  value = module.workload_cluster.api_proxy_port
}

output "helm_releases" {
  value = module.workload_cluster.helm_releases
}

output "kubeconfig" {
  value     = module.workload_cluster.kubeconfig
  sensitive = true
}
