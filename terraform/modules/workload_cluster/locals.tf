module "names" {
  source = "./modules/names"

  cluster_name  = var.cluster_name
  class_prefix  = var.class_prefix
  chart_version = local.versions["capi-cluster-class"]
}

module "port" {
  source = "./modules/port"

  cluster_name = var.cluster_name
  port         = var.proxy_api_port
}

module "ranges" {
  source = "./modules/ranges"

  ranges   = local.ranges
  apart    = [for name in keys(local.ranges) : name if name != "external_prefix_v6"]
  inside   = var.external_prefix_v6 == "" ? {} : { metallb_vip_range_v6 = "external_prefix_v6" }
  families = merge(local.families, var.external_prefix_v6 == "" ? {} : { external_prefix_v6 = 6 })
}

module "kubeconfig" {
  source = "./modules/kubeconfig"

  secret_value = try(data.kubernetes_resources.kubeconfig.objects[0].data.value, null)
  address      = var.lxd_host_address
  port         = module.port.port
}

locals {
  charts_path = var.charts_path == null ? "${path.module}/../../../charts" : var.charts_path
  charts = {
    for chart in ["capi-cluster-class", "capi-workload-cluster", "cni-calico", "metallb", "metallb-config"] :
    chart => yamldecode(file("${local.charts_path}/${chart}/Chart.yaml"))
  }
  versions = { for chart, about in local.charts : chart => about.version }
  # The class that the chart of the Cluster asks for.
  wanted_class = local.charts["capi-workload-cluster"].annotations["k8s-lab.io/capi-cluster-class-chart-version"]

  class_namespace = var.cluster_class_namespace == "" ? var.cluster_namespace : var.cluster_class_namespace

  ranges = merge(
    { "pod_cidrs[0]" = var.pod_cidrs[0], "pod_cidrs[1]" = var.pod_cidrs[1] },
    { "service_cidrs[0]" = var.service_cidrs[0], "service_cidrs[1]" = var.service_cidrs[1] },
    { metallb_vip_range_v6 = var.metallb_vip_range_v6 },
    var.external_prefix_v6 == "" ? {} : { external_prefix_v6 = var.external_prefix_v6 },
    { for name, range in var.taken_ranges : "taken_ranges.${name}" => range },
  )
  families = {
    "pod_cidrs[0]"       = 4
    "pod_cidrs[1]"       = 6
    "service_cidrs[0]"   = 4
    "service_cidrs[1]"   = 6
    metallb_vip_range_v6 = 6
  }
  problems = concat(
    module.names.problems,
    module.ranges.problems,
    local.wanted_class == local.versions["capi-cluster-class"] ? [] : [
      "the chart capi-workload-cluster asks for capi-cluster-class ${local.wanted_class}, and ${local.charts_path} has ${local.versions["capi-cluster-class"]}"
    ],
  )

  tests = { kubectlVersion = var.kubernetes_version }
  images = merge(
    local.tests,
    { for key, image in { kubectlImage = var.test_images.kubectl, image = var.test_images.agnhost } : key => image if image != null },
  )

  # What each chart is given; the caller's values go over these.
  class_values = merge(
    {
      clusterClass = { name = var.class_prefix == "" ? "" : var.class_prefix }
      kubernetes   = { version = var.kubernetes_version }
      capn         = { infrastructureSecretName = var.infrastructure_secret_name }
      images = {
        controlplane = { ref = var.image_controlplane_ref, fingerprint = var.image_controlplane_fingerprint }
        worker       = { ref = var.image_worker_ref, fingerprint = var.image_worker_fingerprint }
      }
      profilesExtra = { controlplane = var.controlplane_profiles_extra, worker = var.worker_profiles_extra }
      devicesExtra  = { controlplane = var.controlplane_devices_extra, worker = var.worker_devices_extra }
      controlPlane = {
        featureGates               = var.control_plane_tuning.feature_gates
        certSANs                   = var.lxd_host_address == null ? [] : [trimsuffix(trimprefix(var.lxd_host_address, "["), "]")]
        apiServerExtraArgs         = var.control_plane_tuning.api_server_extra_args
        controllerManagerExtraArgs = var.control_plane_tuning.controller_manager_extra_args
        schedulerExtraArgs         = var.control_plane_tuning.scheduler_extra_args
        kubeletExtraArgs           = var.control_plane_tuning.kubelet_extra_args
        preKubeadmCommands         = var.control_plane_tuning.pre_kubeadm_commands
        postKubeadmCommands        = var.control_plane_tuning.post_kubeadm_commands
      }
      worker = {
        kubeletExtraArgs    = var.worker_tuning.kubelet_extra_args
        preKubeadmCommands  = var.worker_tuning.pre_kubeadm_commands
        postKubeadmCommands = var.worker_tuning.post_kubeadm_commands
      }
      kubeProxy = { nodePortAddresses = var.kube_proxy_node_port_addresses }
      external  = { prefixV6 = var.external_prefix_v6, interface = var.metallb_interface }
    },
    var.load_balancer == null ? {} : { loadBalancer = var.load_balancer },
  )
  workload_values = {
    cluster = { name = var.cluster_name }
    clusterClass = {
      name      = var.class_prefix
      namespace = local.class_namespace == var.cluster_namespace ? "" : local.class_namespace
    }
    kubernetes     = { version = var.kubernetes_version }
    topology       = { controlPlane = { replicas = var.controlplane_count }, workers = { replicas = var.worker_count } }
    clusterNetwork = { pods = { cidrBlocks = var.pod_cidrs }, services = { cidrBlocks = var.service_cidrs } }
    loadBalancer   = { lxc = { proxyApiPort = module.port.port } }
    tests          = { for key, value in local.images : key => value if key != "image" }
  }
  cni_values = {
    calico = { pods = { cidrBlocks = var.pod_cidrs } }
    tests  = local.images
  }
  metallb_config_values = {
    pool  = { rangeV6 = var.metallb_vip_range_v6, prefixV6 = var.external_prefix_v6 }
    l2    = { interface = var.metallb_interface, extraNodeSelectors = var.metallb_extra_node_selectors }
    tests = merge(local.images, { clusterName = var.cluster_name })
  }

  further = {
    for chart, values in {
      class_values          = var.class_values
      workload_values       = var.workload_values
      cni_values            = var.cni_values
      metallb_values        = var.metallb_values
      metallb_config_values = var.metallb_config_values
    } : chart => values == null ? "{}" : yamlencode(values)
  }

  # What the scripts are told of the cluster.
  told = {
    KUBECONFIG        = abspath(pathexpand(var.mgmt_kubeconfig_path))
    CLUSTER_NAME      = var.cluster_name
    CLUSTER_NAMESPACE = var.cluster_namespace
    API_PORT          = tostring(module.port.port)
  }
  # The gates read the Secret themselves, so that no credential is in their environment and Terraform shows what they say.
  gate = merge(local.told, {
    MODULE   = abspath(path.module)
    SERVER   = module.kubeconfig.published_server
    PATIENCE = var.helm_test_timeout
  })
}
