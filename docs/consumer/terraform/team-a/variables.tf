variable "controlplane_count" {
  description = "An odd number."
  type        = number
  default     = 3
}

variable "worker_count" {
  type    = number
  default = 2
}

variable "vip_range" {
  description = "The addresses that this cluster's Services get."
  type        = string
  default     = "2001:db8:42:100::200-2001:db8:42:100::2ff"
}

variable "class_values" {
  description = "Further values of the chart capi-cluster-class, such as images of your own."
  type        = any
  default     = null
}

variable "cni_values" {
  description = "Further values of the chart cni-calico."
  type        = any
  default     = null
}

variable "metallb_values" {
  description = "Further values of the chart metallb."
  type        = any
  default     = null
}

# Of mgmt.auto.tfvars.json, which has more; OpenTofu names what is not declared here.

variable "k8s_lab_kubernetes_version" {
  type = string
}

variable "k8s_lab_infrastructure_secret_name" {
  type = string
}
