# The names of a cluster's class, as the charts make them: `<prefix>-<version of the chart>`, where the prefix is the cluster's own name
# unless somebody chooses another. So no two clusters share a class by accident.

variable "cluster_name" {
  description = "Name of the cluster."
  type        = string
}

variable "class_prefix" {
  description = "What the class's name begins with; empty is the cluster's name."
  type        = string
  default     = ""
}

variable "chart_version" {
  description = "Version of the chart capi-cluster-class."
  type        = string
}

locals {
  # A long name is cut, and a digest keeps it apart from others that begin alike.
  short  = trimsuffix(substr(var.cluster_name, 0, 31), "-")
  digest = substr(sha256(var.cluster_name), 0, 8)
  own    = length(var.cluster_name) <= 40 ? var.cluster_name : "${local.short}-${local.digest}"

  prefix = var.class_prefix == "" ? local.own : var.class_prefix
  slug   = replace(replace(lower(var.chart_version), ".", "-"), "+", "-")
  class  = "${local.prefix}-${local.slug}"

  problems = compact([
    # Its load balancer's instance is named after it, and names of instances have at most 63 characters.
    can(regex("^[a-z]([-a-z0-9]{0,46}[a-z0-9])?$", var.cluster_name)) ? "" : "cluster_name ${var.cluster_name}: at most 48 small letters, digits and hyphens, the first one a letter and the last one no hyphen",
    length(local.class) <= 63 ? "" : "the class's name ${local.class} has ${length(local.class)} characters, and at most 63 are possible: shorten class_prefix",
  ])
}

output "class" {
  description = "Name of the ClusterClass."
  value       = local.class
}

output "slug" {
  description = "The chart's version, as far as names can have it."
  value       = local.slug
}

output "problems" {
  description = "What is wrong with the names."
  value       = local.problems
}
