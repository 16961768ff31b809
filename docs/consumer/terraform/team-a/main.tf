terraform {
  required_version = ">= 1.9"
  required_providers {
    kubernetes = { source = "hashicorp/kubernetes", version = ">= 2.30" }
    helm       = { source = "hashicorp/helm", version = ">= 3.0" }
  }
}

locals {
  mgmt_kubeconfig_path = abspath("${path.module}/../../.artifacts/mgmt.kubeconfig")

  # The server's address, by which the runner reaches the new cluster.
  host = yamldecode(file("${path.module}/../../inventories/lab/group_vars/k8slab_host.yml"))
  # The server leads the cluster's port to it, and takes that back before the cluster goes.
  publish = "cd '${abspath("${path.module}/../..")}' && unset KUBECONFIG && ansible-playbook k8slab.capi.publish --extra-vars cluster=$CLUSTER_NAME"
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
  kubernetes = module.team_a.connection
}

module "team_a" {
  source    = "../../k8slab.capi/terraform/modules/workload_cluster"
  providers = { kubernetes.mgmt = kubernetes.mgmt, helm.mgmt = helm.mgmt, helm.workload = helm.workload }

  mgmt_kubeconfig_path = local.mgmt_kubeconfig_path
  cluster_name         = "team-a"
  kubernetes_version   = var.k8s_lab_kubernetes_version
  controlplane_count   = var.controlplane_count
  worker_count         = var.worker_count
  pod_cidrs            = ["10.244.0.0/16", "fd42:77:2::/56"]
  service_cidrs        = ["10.96.0.0/16", "fd42:77:3::/112"]
  external_prefix_v6   = local.host.k8s_lab_external_ipv6_prefix
  metallb_vip_range_v6 = var.vip_range
  taken_ranges         = { management = local.host.k8s_lab_management_vip_range }

  infrastructure_secret_name = var.k8s_lab_infrastructure_secret_name
  lxd_host_address           = local.host.k8s_lab_lxd_host_address
  publish_command            = local.publish
  unpublish_command          = "${local.publish} --extra-vars state=absent"

  # Calico's and MetalLB's own definitions are no part of the charts; see their READMEs.
  cni_values     = var.cni_values
  metallb_values = var.metallb_values

  class_values = var.class_values
}

output "cluster_name" {
  value = module.team_a.cluster_name
}

output "kubeconfig" {
  value     = module.team_a.kubeconfig
  sensitive = true
}
