# What the cluster is.

variable "mgmt_kubeconfig_path" {
  description = "Kubeconfig of the management cluster, for kubectl and helm. The providers get theirs from the caller."
  type        = string

  validation {
    condition     = var.mgmt_kubeconfig_path != ""
    error_message = "mgmt_kubeconfig_path is empty."
  }
}

variable "cluster_name" {
  description = "Name of the cluster."
  type        = string
}

variable "cluster_namespace" {
  description = "Namespace of the Cluster on the management cluster; it has the identity Secret."
  type        = string
  default     = "capi-clusters"
}

variable "cluster_class_namespace" {
  description = "Namespace of the class; empty is that of the Cluster."
  type        = string
  default     = ""
}

variable "class_prefix" {
  description = "What the names of the class and its templates begin with; empty is the cluster's name, so that no two clusters share a class."
  type        = string
  default     = ""

  validation {
    condition     = length(var.class_prefix) <= 40
    error_message = "class_prefix has more than 40 characters."
  }
}

variable "kubernetes_version" {
  description = "Version of the nodes."
  type        = string

  validation {
    condition     = can(regex("^v[0-9]+[.][0-9]+[.][0-9]+([-+][0-9A-Za-z.-]+)?$", var.kubernetes_version))
    error_message = "kubernetes_version is not of the form v1.35.0."
  }
}

variable "controlplane_count" {
  description = "Number of control planes."
  type        = number

  validation {
    condition     = var.controlplane_count > 0 && var.controlplane_count % 2 == 1
    error_message = "controlplane_count has to be odd, since etcd decides by majority."
  }
}

variable "worker_count" {
  description = "Number of workers."
  type        = number

  validation {
    condition     = var.worker_count > 0 && floor(var.worker_count) == var.worker_count
    error_message = "worker_count has to be 1 or more, since MetalLB announces from workers alone."
  }
}

# Networks.

variable "pod_cidrs" {
  description = "The Pods' networks: an IPv4 network and an IPv6 network."
  type        = list(string)

  validation {
    condition     = length(var.pod_cidrs) == 2
    error_message = "pod_cidrs has to be an IPv4 network and an IPv6 network."
  }
}

variable "service_cidrs" {
  description = "The Services' networks: an IPv4 network and an IPv6 network."
  type        = list(string)

  validation {
    condition     = length(var.service_cidrs) == 2
    error_message = "service_cidrs has to be an IPv4 network and an IPv6 network."
  }
}

variable "metallb_vip_range_v6" {
  description = "The IPv6 addresses that MetalLB gives to Services, as first-last or as a network."
  type        = string
}

variable "metallb_interface" {
  description = "Interface of the nodes to the outside."
  type        = string
  default     = "eth1"
}

variable "metallb_extra_node_selectors" {
  description = "Labels that an announcing node has to have besides."
  type        = map(string)
  default     = {}
}

variable "external_prefix_v6" {
  description = "The IPv6 network that the router outside announces, within which the VIP range has to be; empty is not known."
  type        = string
  default     = ""
}

variable "taken_ranges" {
  description = "Ranges that are somebody else's, such as other clusters' VIPs: by what they are for, a network or first-last each."
  type        = map(string)
  default     = {}
}

variable "kube_proxy_node_port_addresses" {
  description = "The networks on whose addresses NodePorts answer."
  type        = list(string)
  default     = []
}

# How the API is reached.

variable "lxd_host_address" {
  description = "Address of the host at which the cluster's API is published; null where Terraform runs on the host and reaches the cluster's own address."
  type        = string
  default     = null

  validation {
    condition     = var.lxd_host_address != ""
    error_message = "lxd_host_address is empty: name the host's address, or leave it out where the cluster's own address is reached."
  }
}

variable "proxy_api_port" {
  description = "Port at which the API is published; 0 is one that follows from the cluster's name."
  type        = number
  default     = 0

  validation {
    condition     = var.proxy_api_port >= 0 && var.proxy_api_port <= 65535
    error_message = "proxy_api_port is no port."
  }
}

variable "publish_command" {
  description = "Makes the new API reachable, once it answers and before anything is installed on the cluster: a command for sh, with CLUSTER_NAME, CLUSTER_NAMESPACE, API_PORT and KUBECONFIG (the management cluster's) in its environment. Empty is nothing."
  type        = string
  default     = ""
}

variable "unpublish_command" {
  description = "Undoes publish_command, before the cluster goes."
  type        = string
  default     = ""
}

# Machines.

variable "infrastructure_secret_name" {
  description = "Secret with the identity for LXD."
  type        = string
  default     = "incus-identity"
}

variable "image_controlplane_ref" {
  description = "Image of control planes. VERSION stands for kubernetes_version; without a prefix it is an alias of LXD itself."
  type        = string
  default     = "capi:kubeadm/VERSION"
}

variable "image_worker_ref" {
  description = "Image of workers."
  type        = string
  default     = "capi:kubeadm/VERSION"
}

variable "image_controlplane_fingerprint" {
  description = "Fingerprint of the control planes' image."
  type        = string
  default     = ""
}

variable "image_worker_fingerprint" {
  description = "Fingerprint of the workers' image."
  type        = string
  default     = ""
}

variable "load_balancer" {
  description = "The load balancer, as the chart capi-cluster-class has it; null is the chart's own."
  type        = any
  default     = null
}

variable "controlplane_profiles_extra" {
  description = "Further profiles of control planes."
  type        = list(string)
  default     = []
}

variable "worker_profiles_extra" {
  description = "Further profiles of workers."
  type        = list(string)
  default     = []
}

variable "controlplane_devices_extra" {
  description = "Further devices of control planes, each as name,key=value."
  type        = list(string)
  default     = []
}

variable "worker_devices_extra" {
  description = "Further devices of workers, each as name,key=value."
  type        = list(string)
  default     = []
}

variable "control_plane_tuning" {
  description = "Further settings of control planes."
  type = object({
    feature_gates                 = optional(map(bool), {})
    api_server_extra_args         = optional(list(object({ name = string, value = string })), [])
    controller_manager_extra_args = optional(list(object({ name = string, value = string })), [])
    scheduler_extra_args          = optional(list(object({ name = string, value = string })), [])
    kubelet_extra_args            = optional(list(object({ name = string, value = string })), [])
    pre_kubeadm_commands          = optional(list(string), [])
    post_kubeadm_commands         = optional(list(string), [])
  })
  default = {}
}

variable "worker_tuning" {
  description = "Further settings of workers."
  type = object({
    kubelet_extra_args    = optional(list(object({ name = string, value = string })), [])
    pre_kubeadm_commands  = optional(list(string), [])
    post_kubeadm_commands = optional(list(string), [])
  })
  default = {}
}

# Charts.

variable "charts_path" {
  description = "Folder of the charts; null is the one of the repository that the module is part of."
  type        = string
  default     = null
}

variable "class_values" {
  description = "Further values of the chart capi-cluster-class, over the module's own; so with the other charts below."
  type        = any
  default     = null
}

variable "workload_values" {
  description = "Of the chart capi-workload-cluster."
  type        = any
  default     = null
}

variable "cni_values" {
  description = "Of the chart cni-calico."
  type        = any
  default     = null
}

variable "metallb_values" {
  description = "Of the chart metallb."
  type        = any
  default     = null
}

variable "metallb_config_values" {
  description = "Of the chart metallb-config."
  type        = any
  default     = null
}

variable "test_images" {
  description = "Images of the Pods that judge the cluster; null is the charts' own."
  type        = object({ kubectl = optional(string), agnhost = optional(string) })
  default     = {}
}

# How it is gone about.

variable "wait" {
  description = "Wait until the network and the load balancer run and the Cluster is available. Without it, the gates are not run either."
  type        = bool
  default     = true
}

variable "gates" {
  description = "Judge the network and the load balancer by helm test."
  type        = bool
  default     = true
}

variable "gates_run" {
  description = "Any text; another one has the gates judge once more."
  type        = string
  default     = ""
}

variable "atomic" {
  description = "Have Helm undo what failed on the cluster. Off, so that there is something to look at."
  type        = bool
  default     = false
}

variable "control_plane_timeout" {
  description = "How long the control plane may take, in seconds."
  type        = number
  default     = 1500
}

variable "helm_test_timeout" {
  description = "How long each gate may take, as Helm has it."
  type        = string
  default     = "15m"
}
