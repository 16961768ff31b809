locals {
  text   = <<-YAML
    apiVersion: v1
    kind: Config
    current-context: c
    contexts: [{name: c, context: {cluster: lab, user: admin, namespace: https-of-nobody}}]
    clusters: [{name: lab, cluster: {server: "https://10.77.0.9:6443", certificate-authority-data: Y2E=}}]
    users: [{name: admin, user: {client-certificate-data: Y2VydA==, client-key-data: a2V5}}]
  YAML
  secret = base64encode(local.text)

  cases = {
    "its own address"     = { secret = local.secret, address = null, server = "https://10.77.0.9:6443", name = null }
    "a published address" = { secret = local.secret, address = "192.0.2.10", server = "https://192.0.2.10:26818", name = "kubernetes.default.svc" }
    "a name"              = { secret = local.secret, address = "lab.example.com", server = "https://lab.example.com:26818", name = "kubernetes.default.svc" }
    "IPv6"                = { secret = local.secret, address = "2001:db8::5", server = "https://[2001:db8::5]:26818", name = "kubernetes.default.svc" }
    "IPv6 with brackets"  = { secret = local.secret, address = "[2001:db8::5]", server = "https://[2001:db8::5]:26818", name = "kubernetes.default.svc" }
    "no Secret"           = { secret = null, address = "192.0.2.10", server = null, name = "kubernetes.default.svc" }
    "not base64"          = { secret = "%%%", address = null, server = null, name = null }
    "no kubeconfig in it" = { secret = base64encode("nothing: here"), address = null, server = null, name = null }
    "no YAML in it"       = { secret = base64encode("a: [b"), address = null, server = null, name = null }
  }
}

module "case" {
  source       = "../.."
  for_each     = local.cases
  secret_value = each.value.secret
  address      = each.value.address
  port         = 26818
}

locals {
  found = {
    for case, expected in local.cases : case => {
      expected = { server = expected.server, name = expected.name, ca = expected.server == null ? null : "ca", key = expected.server == null ? null : "key" }
      found = jsondecode(nonsensitive(jsonencode({
        server = module.case[case].connection.host
        name   = module.case[case].connection.tls_server_name
        ca     = module.case[case].connection.cluster_ca_certificate
        key    = module.case[case].connection.client_key
      })))
      document = nonsensitive(module.case[case].kubeconfig)
    }
  }
}

output "wrong" {
  value = { for name, case in local.found : name => case.found if jsonencode(case.found) != jsonencode(case.expected) }
}

# All but the address is as it was.
output "document" {
  value = yamldecode(local.found["IPv6"].document)
}

output "expected_document" {
  value = merge(yamldecode(local.text), {
    clusters = [{
      name = "lab"
      cluster = {
        server                       = "https://[2001:db8::5]:26818"
        "tls-server-name"            = "kubernetes.default.svc"
        "certificate-authority-data" = "Y2E="
      }
    }]
  })
}

output "without" {
  value = local.found["no Secret"].document
}
