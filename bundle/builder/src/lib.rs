//! The offline bundle: building, downloading, verifying and listing it, as `cargo xtask bundle` does.
//!
//! A part is made when something that it is made of has changed, or when it is not as it was made. Whatever is broken off goes on where it
//! was; a folder is filled by one build at a time, and its manifest never lists what is not there.

mod archive;
mod builder;
mod definition;
mod error;
mod fetch;
mod files;
mod filling;
mod instance;
pub mod lock;
mod modules;
mod part;
mod program;
mod reference;
mod registry;
mod rendered;
#[cfg(test)]
mod site;
mod streams;
mod tools;
mod upstream;
pub mod workspace;

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use bundle::{Bundle, Entry, Source};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use filling::Filling;

pub use error::Error;

/// What a person types after `cargo xtask bundle`.
#[must_use]
pub fn command() -> Command {
    let folder = Arg::new("bundle")
        .long("bundle")
        .value_name("FOLDER")
        .global(true)
        .value_parser(value_parser!(PathBuf))
        .help("Where the bundle is, if not in ~/.cache/k8slab/bundle");
    let from = Arg::new("from")
        .long("from")
        .value_parser(["modules", "upstream"])
        .default_value("modules")
        .help("Whether to build everything from package registries, or to download the projects' releases");
    let only = Arg::new("only")
        .long("only")
        .value_name("PART")
        .action(ArgAction::Append)
        .help("Make the parts of this name and leave the others as they are; may be repeated");
    let check = Arg::new("check")
        .long("check")
        .action(ArgAction::SetTrue)
        .conflicts_with("from")
        .help("Make nothing; print the parts that would be made from package registries");
    Command::new("bundle")
        .about("The offline bundle: everything that a lab downloads, in one folder")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(folder)
        .subcommand(Command::new("build").about("Fill the bundle; what is as it should be is kept").arg(from).arg(only).arg(check))
        .subcommand(Command::new("verify").about("Compare every file of the bundle with its digest"))
        .subcommand(Command::new("list").about("Tell what the bundle holds"))
}

/// Does what was typed.
pub fn run(root: &Path, options: &ArgMatches) -> Result<(), Error> {
    match options.subcommand() {
        Some(("build", options)) => {
            let from = options.get_one::<String>("from").map(String::as_str);
            let only: Vec<_> = options.get_many("only").into_iter().flatten().cloned().collect();
            if options.get_flag("check") {
                return check(root, &folder(options)?, &only);
            }
            build(root, &folder(options)?, if from == Some("upstream") { Source::Upstream } else { Source::Modules }, &only)
        }
        Some(("verify", options)) => verify(&Bundle::open(&folder(options)?)?),
        Some(("list", options)) => list(&Bundle::open(&folder(options)?)?, &mut io::stdout().lock()),
        _ => Ok(()),
    }
}

/// Does what `bundle build --check` does: prints what is missing of the bundle in its usual folder.
pub fn print_missing(root: &Path) -> Result<(), Error> {
    check(root, &cache()?.join("bundle"), &[])
}

fn folder(options: &ArgMatches) -> Result<PathBuf, Error> {
    options.get_one::<PathBuf>("bundle").map_or_else(|| Ok(cache()?.join("bundle")), |folder| Ok(folder.clone()))
}

/// Where this project keeps what can be made again.
fn cache() -> Result<PathBuf, Error> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .map(|cache| cache.join("k8slab"))
        .ok_or(Error::NoHome)
}

fn build(root: &Path, folder: &Path, source: Source, only: &[String]) -> Result<(), Error> {
    let start = Instant::now();
    let mut bundle = Filling::begin(folder, source)?;
    match source {
        Source::Upstream => upstream::fill(root, &mut bundle, only)?,
        Source::Modules => {
            let work = cache()?.join("build");
            fs::create_dir_all(&work).map_err(Error::at(&work))?;
            // Bundles in several folders are built in one.
            let lock = work.join(".lock");
            let _alone = lock::hold(&lock).map_err(Error::at(&lock))?;
            modules::fill(root, &work, &mut bundle, only)?;
        }
    }
    if only.is_empty() {
        bundle.finish()?;
    }
    say(format_args!("{} as it should be, after {:.0} s", folder.display(), start.elapsed().as_secs_f64()));
    Ok(())
}

fn check(root: &Path, folder: &Path, only: &[String]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    for part in modules::out_of_date(root, &cache()?.join("build"), folder, only)? {
        writeln!(out, "{part}").map_err(Error::at(Path::new("standard output")))?;
    }
    Ok(())
}

fn verify(bundle: &Bundle) -> Result<(), Error> {
    let mut faults = bundle.faults().peekable();
    if faults.peek().is_some() {
        return Err(Error::Faulty(faults.collect()));
    }
    say(format_args!("{} files, each as the manifest says", bundle.manifest().files.len()));
    Ok(())
}

fn list(bundle: &Bundle, out: &mut impl io::Write) -> Result<(), Error> {
    let entries = &bundle.manifest().files;
    let widest = |text: fn(&Entry) -> usize| entries.iter().map(text).max().unwrap_or_default();
    let (path, version) = (widest(|entry| entry.path.len()), widest(|entry| entry.version.len()));
    for entry in entries {
        let architecture = entry.architecture.as_deref().unwrap_or("any");
        let standin = if entry.standin { "  (stand-in)" } else { "" };
        writeln!(
            out,
            "{:path$}  {:17}  {:version$}  {architecture:5}  {}{standin}",
            entry.path, entry.role, entry.version, entry.origin
        )
        .map_err(Error::at(Path::new("standard output")))?;
    }
    Ok(())
}

/// The parts of these names, or all if none is named.
fn chosen<P>(mut parts: Vec<P>, name: fn(&P) -> &str, only: &[String]) -> Result<Vec<P>, Error> {
    if let Some(unknown) = only.iter().find(|wanted| parts.iter().all(|part| name(part) != **wanted)) {
        let mut known: Vec<_> = parts.iter().map(|part| name(part).to_owned()).collect();
        known.sort();
        known.dedup();
        return Err(Error::UnknownPart { name: unknown.clone(), known });
    }
    parts.retain(|part| only.is_empty() || only.iter().any(|wanted| wanted == name(part)));
    Ok(parts)
}

/// One line on the terminal.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "bundle: {line}");
}

#[cfg(test)]
mod tests {
    use bundle::Role;

    use super::*;

    pub fn entry(path: &str, role: Role) -> Entry {
        Entry {
            path: path.into(),
            role,
            name: path.into(),
            version: "v1".into(),
            architecture: Some("amd64".into()),
            origin: "example.org/tool@v1".into(),
            sha256: "00".into(),
            standin: path == "k3s",
            differs: None,
            images: Vec::new(),
            fingerprint: None,
        }
    }

    #[test]
    fn the_list_marks_standins() {
        let folder = tempfile::tempdir().unwrap();
        let mut bundle = Filling::begin(folder.path(), Source::Modules).unwrap();
        bundle.add([entry("kubectl", Role::Executable), entry("k3s", Role::Executable)]).unwrap();
        let mut table = Vec::new();
        list(&Bundle::open(folder.path()).unwrap(), &mut table).unwrap();
        assert_eq!(
            String::from_utf8(table).unwrap(),
            "k3s      executable         v1  amd64  example.org/tool@v1  (stand-in)\n\
             kubectl  executable         v1  amd64  example.org/tool@v1\n"
        );
    }
}
