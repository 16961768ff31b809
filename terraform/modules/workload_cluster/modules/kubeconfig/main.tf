# The kubeconfig that Cluster API keeps in a Secret, as it is or with another address, and what a provider has to know of it. It is parsed
# and built anew: text is never replaced. What is not there, or is no kubeconfig, is null, so that plans can be made without it.

variable "secret_value" {
  description = "The Secret's data.value, base64; null where there is none."
  type        = string
  default     = null
  sensitive   = true
}

variable "address" {
  description = "Address at which the API is published, where it is reached by that; null is the cluster's own address."
  type        = string
  default     = null
}

variable "port" {
  description = "Port at which the API is published."
  type        = number
}

locals {
  own     = try(yamldecode(base64decode(var.secret_value)), null)
  cluster = try(local.own.clusters[0].cluster, null)
  user    = try(local.own.users[0].user, null)

  # An IPv6 address has brackets in a URL, whoever wrote it without them.
  bare      = var.address == null ? "" : trimsuffix(trimprefix(var.address, "["), "]")
  host      = strcontains(local.bare, ":") ? "[${local.bare}]" : local.bare
  published = var.address == null ? null : "https://${local.host}:${var.port}"
  server    = var.address == null ? try(local.cluster.server, null) : local.published
  # The certificate always has this name; whether it has the address is the class's affair.
  tls_server_name = var.address == null ? null : "kubernetes.default.svc"

  usable = local.cluster != null && local.user != null
  rebuilt = local.usable ? merge(local.own, {
    clusters = [merge(local.own.clusters[0], {
      cluster = merge(
        local.cluster,
        { server = local.server },
        local.tls_server_name == null ? {} : { "tls-server-name" = local.tls_server_name },
      )
    })]
  }) : null
}

output "kubeconfig" {
  description = "The kubeconfig; empty where there is none."
  value       = local.usable ? yamlencode(local.rebuilt) : ""
  sensitive   = true
}

output "published_server" {
  description = "URL at which the API is published; empty where it is reached at the cluster's own address."
  value       = local.published == null ? "" : local.published
}

output "connection" {
  description = "For the attribute kubernetes of the helm provider."
  sensitive   = true
  value = {
    host                   = local.usable ? local.server : null
    tls_server_name        = local.tls_server_name
    cluster_ca_certificate = try(base64decode(local.cluster["certificate-authority-data"]), null)
    client_certificate     = try(base64decode(local.user["client-certificate-data"]), null)
    client_key             = try(base64decode(local.user["client-key-data"]), null)
  }
}
