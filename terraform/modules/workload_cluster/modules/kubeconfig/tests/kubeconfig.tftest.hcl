run "table" {
  command = plan
  module {
    source = "./tests/table"
  }
  assert {
    condition     = length(output.wrong) == 0
    error_message = "Not as the table has it: ${jsonencode(output.wrong)}"
  }
  assert {
    condition     = jsonencode(output.document) == jsonencode(output.expected_document)
    error_message = "More than the address has changed: ${jsonencode(output.document)}"
  }
  assert {
    condition     = output.without == ""
    error_message = "There is a kubeconfig without a Secret."
  }
}
