locals {
  cases = {
    "networks apart"               = { ranges = { a = "10.244.0.0/16", b = "10.96.0.0/16", c = "fd42:77:2::/56" }, problem = "" }
    "one network in another"       = { ranges = { a = "10.0.0.0/8", b = "10.96.0.0/16" }, problem = "a 10.0.0.0/8 and b 10.96.0.0/16 overlap" }
    "a network not at its start"   = { ranges = { a = "10.96.7.3/16", b = "10.96.0.0/24" }, problem = "a 10.96.7.3/16 and b 10.96.0.0/24 overlap" }
    "ranges that touch"            = { ranges = { a = "2001:db8::200-2001:db8::2ff", b = "2001:db8::300-2001:db8::3ff" }, problem = "" }
    "ranges with one in common"    = { ranges = { a = "2001:db8::200-2001:db8::300", b = "2001:db8::300-2001:db8::3ff" }, problem = "overlap" }
    "one address, two spellings"   = { ranges = { a = "2001:DB8:0:0::1", b = "2001:db8::0001" }, problem = "overlap" }
    "numbers, not texts"           = { ranges = { a = "2001:db8::9-2001:db8::20", b = "2001:db8::10" }, problem = "overlap" }
    "of two families"              = { ranges = { a = "10.0.0.0/8", b = "::/0" }, problem = "" }
    "the last address of all"      = { ranges = { a = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", b = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" }, problem = "" }
    "two that differ by their end" = { ranges = { a = "2001:db8:42:100:1:2:3:4", b = "2001:db8:42:100:1:2:3:5" }, problem = "" }
    "no address"                   = { ranges = { a = "2001:db8::g", b = "10.0.0.0/8" }, problem = "a 2001:db8::g is no network" }
    "too many groups"              = { ranges = { a = "1:2:3:4:5:6:7:8:9", b = "10.0.0.0/8" }, problem = "is no network" }
    "no length"                    = { ranges = { a = "2001:db8::/129", b = "10.0.0.0/8" }, problem = "is no network" }
    "three ends"                   = { ranges = { a = "10.0.0.1-10.0.0.2-10.0.0.3", b = "::1" }, problem = "is no network" }
    "ends of two families"         = { ranges = { a = "10.0.0.1-2001:db8::1", b = "::1" }, problem = "is no network" }
    "the wrong way round"          = { ranges = { a = "10.0.0.9-10.0.0.10", b = "10.0.0.110-10.0.0.20" }, problem = "b 10.0.0.110-10.0.0.20 ends before it begins" }
  }
  placed = {
    "within"                = { range = "2001:db8:42:100::200-2001:db8:42:100::2ff", prefix = "2001:db8:42:100::/64", problem = "" }
    "over the end"          = { range = "2001:db8:42:100::1-2001:db8:42:101::1", prefix = "2001:db8:42:100::/64", problem = "is not within" }
    "elsewhere"             = { range = "2001:db8:43::/112", prefix = "2001:db8:42:100::/64", problem = "is not within" }
    "of the other family"   = { range = "192.0.2.1-192.0.2.9", prefix = "2001:db8:42:100::/64", problem = "range 192.0.2.1-192.0.2.9 is not IPv6" }
    "IPv6 written with a 4" = { range = "::ffff:192.0.2.1", prefix = "2001:db8:42:100::/64", problem = "is no network" }
  }
}

module "case" {
  source   = "../.."
  for_each = local.cases
  ranges   = each.value.ranges
  apart    = keys(each.value.ranges)
}

module "placed" {
  source   = "../.."
  for_each = local.placed
  ranges   = { range = each.value.range, prefix = each.value.prefix }
  inside   = { range = "prefix" }
  families = { range = 6 }
}

locals {
  found = merge(
    { for name, expected in local.cases : name => { problem = expected.problem, found = module.case[name].problems } },
    { for name, expected in local.placed : name => { problem = expected.problem, found = module.placed[name].problems } },
  )
}

output "wrong" {
  value = {
    for name, case in local.found : name => case.found
    if case.problem == "" ? length(case.found) > 0 : !anytrue([for problem in case.found : strcontains(problem, case.problem)])
  }
}
