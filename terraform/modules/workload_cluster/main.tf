# On the management cluster.

# The objects of the class outlive their release, since a cluster is made of them. They go here, once the release and the Cluster are gone.
resource "terraform_data" "class" {
  input            = { kubeconfig = local.told.KUBECONFIG, namespace = local.class_namespace, release = "${var.cluster_name}-class" }
  triggers_replace = [local.class_namespace, var.cluster_name]

  provisioner "local-exec" {
    when    = destroy
    command = "kubectl delete clusterclasses.cluster.x-k8s.io --namespace \"$NAMESPACE\" --selector app.kubernetes.io/instance=\"$RELEASE\" --timeout 300s"
    environment = {
      KUBECONFIG = self.input.kubeconfig
      NAMESPACE  = self.input.namespace
      RELEASE    = self.input.release
    }
  }

  lifecycle {
    precondition {
      condition     = length(local.problems) == 0
      error_message = join("\n", local.problems)
    }
  }
}

resource "helm_release" "capi_cluster_class" {
  provider = helm.mgmt

  name            = "${var.cluster_name}-class"
  namespace       = local.class_namespace
  chart           = "${local.charts_path}/capi-cluster-class"
  version         = local.versions["capi-cluster-class"]
  values          = [yamlencode(local.class_values), local.further.class_values]
  upgrade_install = true
  # Its objects are never ready or unready.
  wait    = false
  timeout = 300

  depends_on = [terraform_data.class]
}

# A Cluster outlives its release. It goes here, with all its machines. This is made before the release, so that a Cluster that was
# interrupted in its making goes, too.
resource "terraform_data" "cluster" {
  input            = { kubeconfig = local.told.KUBECONFIG, namespace = var.cluster_namespace, name = var.cluster_name }
  triggers_replace = [var.cluster_namespace, var.cluster_name]

  provisioner "local-exec" {
    when    = destroy
    command = "kubectl delete clusters.cluster.x-k8s.io \"$NAME\" --namespace \"$NAMESPACE\" --ignore-not-found --timeout 900s"
    environment = {
      KUBECONFIG = self.input.kubeconfig
      NAMESPACE  = self.input.namespace
      NAME       = self.input.name
    }
  }

  depends_on = [helm_release.capi_cluster_class]
}

resource "helm_release" "capi_workload_cluster" {
  provider = helm.mgmt

  name            = var.cluster_name
  namespace       = var.cluster_namespace
  chart           = "${local.charts_path}/capi-workload-cluster"
  version         = local.versions["capi-workload-cluster"]
  values          = [yamlencode(local.workload_values), local.further.workload_values]
  upgrade_install = true
  # Helm knows no Cluster; the next resource waits.
  wait    = false
  timeout = 300

  depends_on = [terraform_data.cluster]
}

resource "terraform_data" "control_plane" {
  # What the Secret is called is told by this resource, so that the Secret is read once it is there, and in every plan after that.
  input            = { cluster = var.cluster_name, secret = "${var.cluster_name}-kubeconfig" }
  triggers_replace = [var.cluster_namespace, var.cluster_name]

  provisioner "local-exec" {
    command = join(" && ", [
      "kubectl wait clusters.cluster.x-k8s.io \"$CLUSTER_NAME\" --namespace \"$CLUSTER_NAMESPACE\" --for condition=ControlPlaneInitialized --timeout ${var.control_plane_timeout}s",
      "kubectl wait secret \"$CLUSTER_NAME-kubeconfig\" --namespace \"$CLUSTER_NAMESPACE\" --for create --timeout 60s",
    ])
    environment = local.told
  }

  depends_on = [helm_release.capi_workload_cluster]
}

# Lists, since the provider fails over a single object that is gone, and with it every plan.
data "kubernetes_resources" "cluster" {
  provider = kubernetes.mgmt

  api_version    = "cluster.x-k8s.io/v1beta2"
  kind           = "Cluster"
  namespace      = var.cluster_namespace
  field_selector = "metadata.name=${terraform_data.control_plane.output.cluster}"
}

data "kubernetes_resources" "kubeconfig" {
  provider = kubernetes.mgmt

  api_version    = "v1"
  kind           = "Secret"
  namespace      = var.cluster_namespace
  field_selector = "metadata.name=${terraform_data.control_plane.output.secret}"
}

# Between the halves.

resource "terraform_data" "published" {
  input            = merge(local.told, { command = var.publish_command, undo = var.unpublish_command })
  triggers_replace = [var.publish_command, var.lxd_host_address, module.port.port]

  provisioner "local-exec" {
    command     = var.publish_command == "" ? ":" : var.publish_command
    environment = local.told
  }

  provisioner "local-exec" {
    when        = destroy
    command     = self.input.undo == "" ? ":" : self.input.undo
    environment = { for name, value in self.input : name => value if name != "command" && name != "undo" }
  }

  depends_on = [terraform_data.control_plane]
}

# On the cluster itself.

resource "helm_release" "cni_calico" {
  provider = helm.workload

  name             = "cni-calico"
  namespace        = "calico-system"
  create_namespace = true
  chart            = "${local.charts_path}/cni-calico"
  version          = local.versions["cni-calico"]
  values           = [yamlencode(local.cni_values), local.further.cni_values]
  upgrade_install  = true
  wait             = var.wait
  atomic           = var.wait && var.atomic
  timeout          = 900

  depends_on = [terraform_data.published]
}

resource "terraform_data" "gate_cni" {
  count            = var.wait && var.gates ? 1 : 0
  triggers_replace = [local.versions["cni-calico"], sha256(join("", helm_release.cni_calico.values)), var.gates_run]

  provisioner "local-exec" {
    command     = "\"$MODULE/gate\" cni-calico calico-system"
    environment = local.gate
  }
}

resource "helm_release" "metallb" {
  provider = helm.workload

  name             = "metallb"
  namespace        = "metallb-system"
  create_namespace = true
  chart            = "${local.charts_path}/metallb"
  version          = local.versions["metallb"]
  values           = [local.further.metallb_values]
  upgrade_install  = true
  wait             = var.wait
  atomic           = var.wait && var.atomic
  timeout          = 600

  depends_on = [helm_release.cni_calico, terraform_data.gate_cni]
}

resource "helm_release" "metallb_config" {
  provider = helm.workload

  name            = "metallb-config"
  namespace       = "metallb-system"
  chart           = "${local.charts_path}/metallb-config"
  version         = local.versions["metallb-config"]
  values          = [yamlencode(local.metallb_config_values), local.further.metallb_config_values]
  upgrade_install = true
  wait            = var.wait
  atomic          = var.wait && var.atomic
  timeout         = 600

  depends_on = [helm_release.metallb]
}

resource "terraform_data" "gate_vip" {
  count            = var.wait && var.gates ? 1 : 0
  triggers_replace = [local.versions["metallb-config"], sha256(join("", helm_release.metallb_config.values)), var.gates_run]

  provisioner "local-exec" {
    command     = "\"$MODULE/gate\" metallb-config metallb-system"
    environment = local.gate
  }
}

# Every machine that is asked for is there, after each change of their number or version.
resource "terraform_data" "available" {
  count            = var.wait ? 1 : 0
  triggers_replace = [var.controlplane_count, var.worker_count, var.kubernetes_version]

  provisioner "local-exec" {
    command = join(" && ", [
      for until in [
        "jsonpath={.status.controlPlane.upToDateReplicas}=${var.controlplane_count}",
        "jsonpath={.status.controlPlane.replicas}=${var.controlplane_count}",
        "jsonpath={.status.workers.upToDateReplicas}=${var.worker_count}",
        "jsonpath={.status.workers.replicas}=${var.worker_count}",
        "jsonpath={.status.workers.availableReplicas}=${var.worker_count}",
        "condition=Available",
      ] : "kubectl wait clusters.cluster.x-k8s.io \"$CLUSTER_NAME\" --namespace \"$CLUSTER_NAMESPACE\" --for '${until}' --timeout ${var.control_plane_timeout}s"
    ])
    environment = local.told
  }

  depends_on = [helm_release.capi_workload_cluster, helm_release.metallb_config]
}
