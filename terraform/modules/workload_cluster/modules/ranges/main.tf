# Arithmetic on addresses: networks, ranges `first-last` and single addresses, of both families. They are compared as numbers, so that it
# makes no difference how somebody spells an address.

variable "ranges" {
  description = "What there is, by what it is for: a network, a range first-last or one address each."
  type        = map(string)
}

variable "apart" {
  description = "Which of them may have no address in common."
  type        = list(string)
  default     = []
}

variable "inside" {
  description = "Which of them has to be within which other."
  type        = map(string)
  default     = {}
}

variable "families" {
  description = "Of which family each has to be, 4 or 6, where that matters."
  type        = map(number)
  default     = {}
}

locals {
  networks = { for name, text in var.ranges : name => text if strcontains(text, "/") }

  # The first and the last address of each, as texts. A network's last one follows from its length.
  ends = {
    for name, text in var.ranges : name => (
      contains(keys(local.networks), name)
      ? [for end in [try(cidrhost(text, 0), "")] : end]
      : [for end in split("-", text) : trimspace(end)]
    )
  }
  is_v6 = { for name, ends in local.ends : name => strcontains(ends[0], ":") }
  valid = {
    for name, ends in local.ends : name => alltrue([
      for end in ends : can(cidrhost("${end}/${local.is_v6[name] ? 128 : 32}", 0)) && strcontains(end, ":") == local.is_v6[name] && !(strcontains(end, ".") && strcontains(end, ":"))
    ]) && length(ends) <= 2
  }

  # The groups of an address as numbers: four of IPv4, eight of IPv6, whose gap is filled up.
  width = { for name, is_v6 in local.is_v6 : name => is_v6 ? 16 : 8 }
  halves = {
    for name, ends in local.ends : name => [
      for end in ends : [for half in split("::", lower(end)) : compact(split(local.is_v6[name] ? ":" : ".", half))]
    ] if local.valid[name]
  }
  groups = {
    for name, ends in local.halves : name => [
      for halves in ends : [
        for group in concat(
          halves[0],
          local.is_v6[name] ? [for gap in range(8 - length(flatten(halves))) : "0"] : [],
          flatten(slice(halves, 1, length(halves))),
        ) : parseint(group, local.is_v6[name] ? 16 : 10)
      ]
    ]
  }
  # How many bits of each group a network leaves free.
  free = {
    for name, groups in local.groups : name => [
      for at, group in groups[0] : (
        contains(keys(local.networks), name)
        ? max(0, min(local.width[name], local.width[name] * (at + 1) - tonumber(split("/", var.ranges[name])[1])))
        : 0
      )
    ]
  }
  # Numbers of 128 bits are more than a number can hold exactly: texts of one length stand for them, which sort as they would.
  bounds = {
    for name, groups in local.groups : name => {
      first = join("", [for group in groups[0] : format("%04x", group)])
      last = join("", [
        for at, group in groups[length(groups) - 1] : format("%04x", group + pow(2, local.free[name][at]) - 1)
      ])
    }
  }

  malformed = [for name, valid in local.valid : "${name} ${var.ranges[name]} is no network, no range first-last and no address" if !valid]
  reversed  = [for name, bounds in local.bounds : "${name} ${var.ranges[name]} ends before it begins" if sort([bounds.first, bounds.last])[0] != bounds.first]
  strange = [
    for name, family in var.families : "${name} ${var.ranges[name]} is not IPv${family}"
    if contains(keys(local.bounds), name) && local.is_v6[name] != (family == 6)
  ]
  pairs = flatten([
    for at, one in var.apart : [for other in slice(var.apart, at + 1, length(var.apart)) : { one = one, other = other }]
  ])
  overlaps = [
    for pair in local.pairs : "${pair.one} ${var.ranges[pair.one]} and ${pair.other} ${var.ranges[pair.other]} overlap"
    if try(
      local.is_v6[pair.one] == local.is_v6[pair.other]
      && sort([local.bounds[pair.one].first, local.bounds[pair.other].last])[0] == local.bounds[pair.one].first
      && sort([local.bounds[pair.other].first, local.bounds[pair.one].last])[0] == local.bounds[pair.other].first,
    false)
  ]
  outside = [
    for inner, outer in var.inside : "${inner} ${var.ranges[inner]} is not within ${outer} ${var.ranges[outer]}"
    if try(
      local.is_v6[inner] != local.is_v6[outer]
      || sort([local.bounds[outer].first, local.bounds[inner].first])[0] != local.bounds[outer].first
      || sort([local.bounds[inner].last, local.bounds[outer].last])[0] != local.bounds[inner].last,
    false)
  ]
}

output "problems" {
  description = "What is wrong with them."
  value       = concat(local.malformed, local.reversed, local.strange, local.overlaps, local.outside)
}
