# The same table is read by the tests of the crate `lab`, so that both say the same.
locals {
  ports = jsondecode(file("${path.module}/../ports.json"))
}

module "by_name" {
  source       = "../.."
  for_each     = local.ports
  cluster_name = each.key
}

module "given" {
  source       = "../.."
  cluster_name = "lab-default"
  port         = 443
}

output "wrong" {
  value = { for name, port in local.ports : name => module.by_name[name].port if module.by_name[name].port != port }
}

output "given" {
  value = module.given.port
}
