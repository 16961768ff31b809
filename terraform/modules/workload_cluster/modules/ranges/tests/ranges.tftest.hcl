run "table" {
  command = plan
  module {
    source = "./tests/table"
  }
  assert {
    condition     = length(output.wrong) == 0
    error_message = "Not as the table has it: ${jsonencode(output.wrong)}"
  }
}
