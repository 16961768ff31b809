//! Makes the table of the charts' files, sorted by path, so that the same folder always gives the same executable.

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(format!("{name} is not set")));
    let charts = variable("CARGO_MANIFEST_DIR")?.join("../../charts");
    println!("cargo::rerun-if-changed={}", charts.display());
    let mut files = Vec::new();
    if charts.is_dir() {
        collect(&charts, &mut files)?;
    }
    files.sort();
    let mut table = io::BufWriter::new(fs::File::create(variable("OUT_DIR")?.join("files.rs"))?);
    writeln!(table, "const FILES: &[(&str, &[u8])] = &[")?;
    for file in files {
        let name = file.strip_prefix(&charts).map_err(io::Error::other)?;
        writeln!(table, "    ({:?}, include_bytes!({:?})),", name.display().to_string(), file.display().to_string())?;
    }
    writeln!(table, "];")?;
    table.flush()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
