output "cluster_name" {
  description = "Name of the cluster."
  value       = var.cluster_name
}

output "cluster_namespace" {
  description = "Namespace of the Cluster."
  value       = var.cluster_namespace
}

output "cluster_class_name" {
  description = "Name of its ClusterClass."
  value       = module.names.class
}

output "kubeconfig" {
  description = "Its kubeconfig, which the module writes nowhere; empty while there is none."
  value       = module.kubeconfig.kubeconfig
  sensitive   = true
}

output "connection" {
  description = "For the attribute kubernetes of the provider helm.workload."
  value       = module.kubeconfig.connection
  sensitive   = true
}

output "api_proxy_port" {
  description = "Port at which its API is published."
  value       = module.port.port

  precondition {
    condition     = try(data.kubernetes_resources.cluster.objects[0].metadata.annotations["k8s-lab.io/api-proxy-port"], tostring(module.port.port)) == tostring(module.port.port)
    error_message = "The Cluster says that its API is published at another port than ${module.port.port}."
  }
}

output "metallb_vip_range_v6" {
  description = "The addresses that its Services get."
  value       = var.metallb_vip_range_v6
}

output "helm_releases" {
  description = "Its releases."
  value = {
    for key, release in {
      capi_cluster_class    = helm_release.capi_cluster_class
      capi_workload_cluster = helm_release.capi_workload_cluster
      cni_calico            = helm_release.cni_calico
      metallb               = helm_release.metallb
      metallb_config        = helm_release.metallb_config
    } : key => { id = release.id, name = release.name, namespace = release.namespace, version = release.version }
  }
}
