//! All steps of the collection as one executable.

fn main() -> std::process::ExitCode {
    ansible::main_of(&dispatch::steps())
}
