variable "mgmt_kubeconfig_path" {
  type    = string
  default = null
}

variable "k8s_lab_mgmt_kubeconfig_path" {
  type    = string
  default = null
}

variable "k8s_lab_workload_cluster_name" {
  type = string
}

variable "k8s_lab_kubernetes_version" {
  type    = string
  default = "v1.35.0"
}

variable "k8s_lab_workload_controlplane_count" {
  type    = number
  default = 1
}

variable "k8s_lab_workload_worker_count" {
  type    = number
  default = 1
}

variable "k8s_lab_workload_pod_cidrs" {
  type    = list(string)
  default = ["10.244.0.0/16", "fd42:77:2::/56"]
}

variable "k8s_lab_workload_service_cidrs" {
  type    = list(string)
  default = ["10.96.0.0/16", "fd42:77:3::/112"]
}

variable "k8s_lab_workload_vip_range" {
  type = string
}

variable "k8s_lab_external_ipv6_prefix" {
  type    = string
  default = ""
}

variable "taken_ranges" {
  type    = map(string)
  default = {}
}

variable "k8s_lab_infrastructure_secret_name" {
  type    = string
  default = "incus-identity"
}

variable "k8s_lab_lxd_host_address" {
  type    = string
  default = null
}

variable "publish_command" {
  type    = string
  default = ""
}

variable "unpublish_command" {
  type    = string
  default = ""
}

variable "k8s_lab_bundle" {
  type    = string
  default = ""
}

variable "wait" {
  type    = bool
  default = true
}

variable "gates" {
  type    = bool
  default = true
}

variable "control_plane_timeout" {
  type    = number
  default = 1500
}

# What mgmt.auto.tfvars.json has besides. OpenTofu warns of what is not declared.

variable "k8s_lab_project_name" {
  type    = string
  default = null
}

variable "k8s_lab_cluster_topology_enabled" {
  type    = bool
  default = null
}

variable "k8s_lab_unprivileged_nodes" {
  type    = bool
  default = null
}

variable "k8s_lab_management_cluster_name" {
  type    = string
  default = null
}

variable "k8s_lab_management_controlplane_count" {
  type    = number
  default = null
}

variable "k8s_lab_management_worker_count" {
  type    = number
  default = null
}

variable "k8s_lab_capn_provider_version" {
  type    = string
  default = null
}

variable "k8s_lab_mgmt_api_server_url" {
  type    = string
  default = null
}
