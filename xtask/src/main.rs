//! Generated files, packaging and the offline bundle: `cargo xtask --help`.

mod collection;
mod generate;
mod routing;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use bundle_builder::workspace::{ARCHITECTURES, Architecture, native};
use clap::{Arg, ArgAction, Command};
use converge::Explain as _;

/// What ends a task before it is done.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{program}: {outcome}")]
    Command { program: String, outcome: String },
    #[error("collection/galaxy.yml has another version than Cargo.toml, {}", env!("CARGO_PKG_VERSION"))]
    Version,
    #[error("not as generated, run `cargo xtask generate`: {}", .0.join(", "))]
    Stale(Vec<String>),
    #[error(transparent)]
    Bundle(#[from] bundle_builder::Error),
}

impl Error {
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Bundle(error) => error.hints(),
            _ => Vec::new(),
        }
    }

    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

fn main() -> ExitCode {
    let check = Arg::new("check")
        .long("check")
        .action(ArgAction::SetTrue)
        .help("Write nothing; fail if a file is not as it would be written");
    let command = Command::new("cargo xtask")
        .about("Generated files, packaging and the offline bundle")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("generate")
                .about("Write what follows from the steps' option tables: roles, documentation stubs, module routing")
                .arg(check),
        )
        .subcommand(
            Command::new("collection")
                .about("Build dist/k8slab-capi-VERSION.tar.gz")
                .arg(
                    Arg::new("arch")
                        .long("arch")
                        .action(ArgAction::Append)
                        .value_parser(ARCHITECTURES.map(|arch| arch.name))
                        .default_value(native().name)
                        .help("CPU to carry executables for; may be repeated"),
                )
                .arg(
                    Arg::new("check-bundle")
                        .long("check-bundle")
                        .action(ArgAction::SetTrue)
                        .help("Then print what `cargo xtask bundle build --check` prints"),
                ),
        )
        .subcommand(bundle_builder::command());
    let outcome = match command.get_matches().subcommand() {
        Some(("generate", options)) => generate::run(&root(), options.get_flag("check")),
        Some(("collection", options)) => {
            let asked = |arch: &&Architecture| {
                options.get_many("arch").is_some_and(|mut names| names.any(|name: &String| name == arch.name))
            };
            let built = collection::build(&root(), &ARCHITECTURES.iter().filter(asked).collect::<Vec<_>>());
            if options.get_flag("check-bundle") {
                built.and_then(|()| bundle_builder::print_missing(&root()).map_err(Error::from))
            } else {
                built
            }
        }
        Some(("bundle", options)) => bundle_builder::run(&root(), options).map_err(Error::from),
        _ => Ok(()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "xtask: {error}");
            for hint in error.hints() {
                let _ = writeln!(io::stderr(), "hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder, which is the parent of this crate's.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
