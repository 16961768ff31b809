//! The offline bundle: building, verifying and listing it.

mod definition;
mod error;
mod fetch;
mod modules;
mod part;
mod upstream;

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bundle::{Bundle, Entry, MANIFEST, Manifest, Source};
use clap::{Arg, ArgMatches, Command, value_parser};

pub use error::Error;

/// What a person types after `cargo xtask bundle`.
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
    Command::new("bundle")
        .about("The offline bundle: everything that a lab downloads, in one folder")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(folder)
        .subcommand(Command::new("build").about("Fill the bundle; what is as it should be is kept").arg(from))
        .subcommand(Command::new("verify").about("Compare every file of the bundle with its digest"))
        .subcommand(Command::new("list").about("Tell what the bundle holds"))
}

/// Does what was typed.
pub fn run(root: &Path, options: &ArgMatches) -> Result<(), Error> {
    match options.subcommand() {
        Some(("build", options)) => {
            let folder = folder(options)?;
            fs::create_dir_all(&folder).map_err(Error::at(&folder))?;
            match options.get_one::<String>("from").map(String::as_str) {
                Some("upstream") => seal(&folder, Source::Upstream, upstream::fill(root, &folder)?),
                _ => seal(&folder, Source::Modules, modules::fill(root, &cache()?.join("build"), &folder)?),
            }
        }
        Some(("verify", options)) => verify(&Bundle::open(&folder(options)?)?),
        Some(("list", options)) => list(&Bundle::open(&folder(options)?)?, &mut io::stdout().lock()),
        _ => Ok(()),
    }
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

/// Writes the manifest, and removes what an earlier one listed and this one does not.
fn seal(folder: &Path, source: Source, files: Vec<Entry>) -> Result<(), Error> {
    let manifest = Manifest::new(source, files);
    if let Ok(earlier) = Bundle::open(folder) {
        let is_listed = |entry: &&Entry| manifest.files.iter().any(|listed| listed.path == entry.path);
        for entry in earlier.manifest().files.iter().filter(|entry| !is_listed(entry)) {
            let path = earlier.path(entry);
            if path.exists() {
                fs::remove_file(&path).map_err(Error::at(&path))?;
            }
        }
    }
    let path = folder.join(MANIFEST);
    let unfinished = folder.join(format!(".{MANIFEST}"));
    fs::write(&unfinished, manifest.to_json()).map_err(Error::at(&unfinished))?;
    fs::rename(&unfinished, &path).map_err(Error::at(&path))
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
            "{:path$}  {:10}  {:version$}  {architecture:5}  {}{standin}",
            entry.path, entry.role, entry.version, entry.origin
        )
        .map_err(Error::at(Path::new("standard output")))?;
    }
    Ok(())
}

/// One line on the terminal.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "bundle: {line}");
}

#[cfg(test)]
mod tests {
    use bundle::Role;

    use super::*;

    fn entry(path: &str) -> Entry {
        Entry {
            path: path.into(),
            role: Role::Executable,
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
    fn what_is_no_longer_listed_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["kept", "dropped", "foreign"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        seal(folder.path(), Source::Modules, vec![entry("kept"), entry("dropped")]).unwrap();
        seal(folder.path(), Source::Modules, vec![entry("kept")]).unwrap();
        let left = |file: &str| folder.path().join(file).exists();
        assert_eq!([left("kept"), left("dropped"), left("foreign")], [true, false, true]);
    }

    #[test]
    fn the_list_marks_standins() {
        let folder = tempfile::tempdir().unwrap();
        seal(folder.path(), Source::Modules, vec![entry("kubectl"), entry("k3s")]).unwrap();
        let mut table = Vec::new();
        list(&Bundle::open(folder.path()).unwrap(), &mut table).unwrap();
        assert_eq!(
            String::from_utf8(table).unwrap(),
            "k3s      executable  v1  amd64  example.org/tool@v1  (stand-in)\n\
             kubectl  executable  v1  amd64  example.org/tool@v1\n"
        );
    }
}
