//! The Helm charts that the collection ships.
//!
//! They are part of the executable, so that a host needs no copy of them and a step always has those of its own version. Whoever
//! needs one as a folder writes it out.

use std::{collections::BTreeMap, fs, io, path::Path};

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The files of a chart by their paths in it.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The names of all charts that can be installed, sorted.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let is_library = |about: &[u8]| String::from_utf8_lossy(about).lines().any(|line| line == "type: library");
    let charts = FILES.iter().filter(|(_, about)| !is_library(about));
    let names = charts.filter_map(|(path, _)| path.strip_suffix("/Chart.yaml"));
    names.filter(|name| !name.contains('/')).collect()
}

/// The files of a chart; nothing if the collection has none of this name.
#[must_use]
pub fn find(name: &str) -> Option<Files> {
    let of_chart = FILES.iter().filter_map(|(path, content)| {
        let path = path.strip_prefix(name)?.strip_prefix('/')?;
        Some((path.to_owned(), content.to_vec()))
    });
    let files: Files = of_chart.collect();
    files.contains_key("Chart.yaml").then_some(files)
}

/// Writes a chart out as a folder.
pub fn write(files: &Files, folder: &Path) -> io::Result<()> {
    for (path, content) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chart_is_found_and_written_as_it_is_in_the_repository() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts");
        for name in names() {
            let files = find(name).unwrap();
            let folder = tempfile::tempdir().unwrap();
            write(&files, folder.path()).unwrap();
            for path in files.keys() {
                let written = fs::read(folder.path().join(path)).unwrap();
                assert_eq!(written, fs::read(repository.join(name).join(path)).unwrap(), "{name}/{path}");
            }
        }
    }

    #[test]
    fn what_is_no_chart_of_ours_is_not_found() {
        for name in ["", "no-such-chart", "../charts"] {
            assert!(find(name).is_none(), "{name}");
        }
        assert!(names().is_sorted() && !names().contains(&"common"), "{:?}", names());
    }
}
