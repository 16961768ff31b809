# The port at which a cluster's API is published: the one that is given, or one that follows from the name alone, so that everybody can
# tell it. zlib's Adler-32 over the name, as the charts and the steps of the collection have it.

variable "cluster_name" {
  description = "Name of the cluster."
  type        = string
}

variable "port" {
  description = "A port of one's own; 0 is the one by the name."
  type        = number
  default     = 0
}

locals {
  # Names have no other characters. Each stands at the place of its code.
  characters = merge(
    { "-" = 45 },
    { for digit in range(10) : tostring(digit) => 48 + digit },
    { for at, letter in split("", "abcdefghijklmnopqrstuvwxyz") : letter => 97 + at },
  )
  # What is no name has no port of its own, and is refused elsewhere.
  bytes = [for character in split("", var.cluster_name) : lookup(local.characters, character, 0)]

  prime = 65521
  low   = (1 + sum(local.bytes)) % local.prime
  high  = (length(local.bytes) + sum([for at, byte in local.bytes : (length(local.bytes) - at) * byte])) % local.prime
}

output "port" {
  description = "The port."
  value       = var.port > 0 ? var.port : 20000 + (local.high * 65536 + local.low) % 10000
}
