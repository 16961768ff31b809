run "table" {
  command = plan
  module {
    source = "./tests/table"
  }
  assert {
    condition     = length(output.wrong) == 0
    error_message = "Other ports than the table has: ${jsonencode(output.wrong)}"
  }
  assert {
    condition     = output.given == 443
    error_message = "A port that is given is not taken: ${output.given}"
  }
}
