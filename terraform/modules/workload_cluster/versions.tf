terraform {
  # Validations that look at other variables need it. OpenTofu counts as its own version.
  required_version = ">= 1.9"

  required_providers {
    kubernetes = {
      source                = "hashicorp/kubernetes"
      version               = ">= 2.30"
      configuration_aliases = [kubernetes.mgmt]
    }
    helm = {
      source  = "hashicorp/helm"
      version = ">= 3.0"
      # Callers configure them, so that the module may be called with for_each, count and depends_on.
      configuration_aliases = [helm.mgmt, helm.workload]
    }
  }
}
