locals {
  long = "a-rather-long-name-of-a-cluster-for-one-team"

  cases = {
    "by the cluster's name"   = { name = "lab-default", prefix = "", version = "0.7.0", class = "lab-default-0-7-0", problems = 0 }
    "by a prefix"             = { name = "lab-default", prefix = "capn", version = "0.7.0", class = "capn-0-7-0", problems = 0 }
    "a pre-release"           = { name = "lab", prefix = "", version = "1.0.0-RC.1", class = "lab-1-0-0-rc-1", problems = 0 }
    "build metadata"          = { name = "lab", prefix = "", version = "1.0.0+3", class = "lab-1-0-0-3", problems = 0 }
    "a long name is cut"      = { name = local.long, prefix = "", version = "0.7.0", class = "a-rather-long-name-of-a-cluster-${substr(sha256(local.long), 0, 8)}-0-7-0", problems = 0 }
    "a class of 64 letters"   = { name = "lab", prefix = join("", [for n in range(58) : "x"]), version = "0.7.0", class = "${join("", [for n in range(58) : "x"])}-0-7-0", problems = 1 }
    "a capital letter"        = { name = "Lab", prefix = "", version = "0.7.0", class = "Lab-0-7-0", problems = 1 }
    "a hyphen at the end"     = { name = "lab-", prefix = "", version = "0.7.0", class = "lab--0-7-0", problems = 1 }
    "a name of 49 characters" = { name = join("", [for n in range(49) : "x"]), prefix = "p", version = "0.7.0", class = "p-0-7-0", problems = 1 }
  }
}

module "case" {
  source        = "../.."
  for_each      = local.cases
  cluster_name  = each.value.name
  class_prefix  = each.value.prefix
  chart_version = each.value.version
}

output "wrong" {
  value = {
    for case, expected in local.cases : case => { class = module.case[case].class, problems = module.case[case].problems }
    if module.case[case].class != expected.class || length(module.case[case].problems) != expected.problems
  }
}
