//! Parts that are made only when something that they are made of has changed, or when they are not as they were made.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, files, say};

/// Where files are until they are whole, in the folder that they are for.
const UNFINISHED: &str = ".unfinished";

/// What a part is made of, in one digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs(String);

impl Inputs {
    /// The definition of the part, the files of the work tree that it reads, and the inputs of the parts that it is made of. Files are
    /// named as they are in the work tree, so that any other one makes the same of the same.
    pub fn of(root: &Path, definition: &impl Serialize, files: &[PathBuf], parts: &[&Self]) -> Result<Self, Error> {
        let mut digest = Sha256::new();
        let mut add = |bytes: &[u8]| {
            digest.update(bytes.len().to_le_bytes());
            digest.update(bytes);
        };
        // Only strings, lists and maps with strings for keys: nothing that JSON lacks.
        add(&serde_json::to_vec(definition).unwrap_or_default());
        for file in files {
            add(file.strip_prefix(root).unwrap_or(file).as_os_str().as_encoded_bytes());
            add(&fs::read(file).map_err(Error::at(file))?);
        }
        for part in parts {
            add(part.0.as_bytes());
        }
        Ok(Self(HEXLOWER.encode(&digest.finalize())))
    }
}

/// What is noted of a part when it is made.
#[derive(Deserialize, Serialize)]
struct Note {
    inputs: String,
    made: Made,
    /// By these it is seen, without reading them, that the files are those that were made.
    stamps: Vec<Stamp>,
}

/// The files of a part, by their digests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Made {
    /// Of each file; of a folder, nothing.
    pub digests: Vec<String>,
    /// Of all files, one after the other.
    pub whole: String,
}

impl Made {
    fn look(outputs: &[&Path]) -> Result<Self, Error> {
        if let [folder] = outputs
            && folder.is_dir()
        {
            return Ok(Self { digests: vec![String::new()], whole: String::new() });
        }
        let digests = outputs.iter().map(|output| files::digest(&[output])).collect::<Result<Vec<_>, _>>()?;
        let whole = match digests.as_slice() {
            [only] => only.clone(),
            _ => files::digest(outputs)?,
        };
        Ok(Self { digests, whole })
    }
}

/// A file's length, its last change and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Stamp(u64, i64, i64, u64);

impl Stamp {
    fn of(output: &Path) -> io::Result<Self> {
        let found = fs::metadata(output)?;
        // What lies in a folder does not show in it, and all of it is looked at when it is read.
        Ok(if found.is_dir() { Self(0, 0, 0, 0) } else { Self(found.len(), found.mtime(), found.mtime_nsec(), found.ino()) })
    }

    fn of_all(outputs: &[&Path]) -> io::Result<Vec<Self>> {
        outputs.iter().map(|output| Self::of(output)).collect()
    }
}

/// Where it is noted what the parts were last made of.
pub struct Notes {
    folder: PathBuf,
    check: bool,
    /// Whoever makes a part holds it, so that another who needs the part waits for it.
    locks: Mutex<BTreeMap<PathBuf, Arc<Mutex<()>>>>,
}

impl Notes {
    pub fn in_folder(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::at(folder))?;
        Ok(Self { folder: folder.to_owned(), check: false, locks: Mutex::default() })
    }

    /// Notes by which nothing is made: what would be is an error.
    pub fn to_check(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), check: true, locks: Mutex::default() }
    }

    /// Makes the part in these files of one folder, unless they are there as they were made, and made of the same. `make` writes to the
    /// paths that it is given; nobody sees a file in its place that is not whole.
    pub fn make(
        &self,
        outputs: &[&Path],
        inputs: &Inputs,
        make: impl FnOnce(&[PathBuf]) -> Result<(), Error>,
    ) -> Result<Made, Error> {
        let output = outputs[0];
        let lock = Arc::clone(self.locks.lock().unwrap_or_else(PoisonError::into_inner).entry(output.to_owned()).or_default());
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let name = output.file_name().unwrap_or_default().to_string_lossy();
        // Parts in different folders may have the same name.
        let note = self.folder.join(HEXLOWER.encode(&Sha256::digest(output.as_os_str().as_encoded_bytes())[..8]));
        if let Some(made) = self.as_noted(&note, outputs, inputs) {
            return Ok(made);
        }
        if self.check {
            return Err(Error::OutOfDate);
        }
        say(format_args!("    {name} ..."));
        let start = Instant::now();
        if note.exists() {
            fs::remove_file(&note).map_err(Error::at(&note))?;
        }
        let folder = output.parent().unwrap_or(Path::new("/")).join(UNFINISHED);
        fs::create_dir_all(&folder).map_err(Error::at(&folder))?;
        let unfinished: Vec<_> = outputs.iter().map(|output| folder.join(output.file_name().unwrap_or_default())).collect();
        make(&unfinished)?;
        for (unfinished, output) in unfinished.iter().zip(outputs) {
            if output.is_dir() {
                fs::remove_dir_all(output).map_err(Error::at(output))?;
            }
            fs::rename(unfinished, output).map_err(Error::at(unfinished))?;
        }
        // Another part may have something in it.
        let _ = fs::remove_dir(&folder);
        let found = Made::look(outputs)?;
        let stamps = Stamp::of_all(outputs).map_err(Error::at(output))?;
        write(&note, &Note { inputs: inputs.0.clone(), made: found.clone(), stamps })?;
        say(format_args!("    {name}: {:.1} s", start.elapsed().as_secs_f64()));
        Ok(found)
    }

    /// The part, if it is as the note says and made of this.
    fn as_noted(&self, path: &Path, outputs: &[&Path], inputs: &Inputs) -> Option<Made> {
        let note: Note = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let stamps = Stamp::of_all(outputs).ok()?;
        if note.inputs != inputs.0 {
            return None;
        }
        if stamps != note.stamps {
            // They may have been copied, or written once more with the same content.
            if Made::look(outputs).ok()? != note.made {
                return None;
            }
            if !self.check {
                write(path, &Note { inputs: note.inputs, made: note.made.clone(), stamps }).ok()?;
            }
        }
        Some(note.made)
    }
}

fn write(path: &Path, note: &Note) -> Result<(), Error> {
    let text = serde_json::to_vec(note).map_err(|error| Error::at(path)(error.into()))?;
    fs::write(path, text).map_err(Error::at(path))
}
#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
    };

    use super::*;

    #[test]
    fn a_part_is_made_when_it_is_absent_or_of_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::in_folder(&folder.path().join("notes")).unwrap();
        let output = folder.path().join("bin/tool");
        let source = folder.path().join("source");
        let made = Cell::new(0);
        let build = |definition: &str| {
            let inputs = Inputs::of(folder.path(), &definition, std::slice::from_ref(&source), &[]).unwrap();
            notes.make(&[&output], &inputs, |unfinished| {
                made.set(made.get() + 1);
                assert!(unfinished[0] != output);
                fs::write(&unfinished[0], "made").map_err(Error::at(&output))
            })
        };
        fs::write(&source, "1").unwrap();
        for (case, change, expected) in
            [("first", None, 1), ("nothing changed", None, 1), ("another source", Some("2"), 2), ("nothing changed again", None, 2)]
        {
            if let Some(content) = change {
                fs::write(&source, content).unwrap();
            }
            build("definition").unwrap();
            assert_eq!(made.get(), expected, "{case}");
        }
        build("another definition").unwrap();
        assert_eq!(made.get(), 3);
        for (case, change, expected) in [
            ("gone", None, 4),
            ("with another content of the same length", Some("edam"), 5),
            ("written once more", Some("made"), 5),
        ] {
            fs::remove_file(&output).unwrap();
            if let Some(content) = change {
                fs::write(&output, content).unwrap();
            }
            let found = build("another definition").unwrap();
            assert_eq!((made.get(), fs::read_to_string(&output).unwrap().as_str()), (expected, "made"), "{case}");
            assert_eq!(found, build("another definition").unwrap(), "{case}");
            assert_eq!(found.whole, files::digest(&[&output]).unwrap(), "{case}");
        }
        assert!(!folder.path().join("bin").join(UNFINISHED).exists());
    }

    #[test]
    fn several_files_of_a_part_have_one_digest_together() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::in_folder(&folder.path().join("notes")).unwrap();
        let outputs = ["metadata", "rootfs"].map(|name| folder.path().join(name));
        let inputs = Inputs::of(Path::new(""), &"definition", &[], &[]).unwrap();
        let write = |unfinished: &[PathBuf]| {
            unfinished
                .iter()
                .zip(["meta", "root"])
                .try_for_each(|(file, content)| fs::write(file, content).map_err(Error::at(file)))
        };
        let made = notes.make(&[&outputs[0], &outputs[1]], &inputs, write).unwrap();
        assert_eq!(made.whole, HEXLOWER.encode(&Sha256::digest("metaroot")));
        assert_eq!(made.digests, ["meta", "root"].map(|content| HEXLOWER.encode(&Sha256::digest(content))));
        fs::write(&outputs[1], "spoilt").unwrap();
        assert_eq!(notes.make(&[&outputs[0], &outputs[1]], &inputs, write).unwrap(), made);
        assert_eq!(fs::read_to_string(&outputs[1]).unwrap(), "root");
    }

    #[test]
    fn a_folder_is_made_anew_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::in_folder(&folder.path().join("notes")).unwrap();
        let output = folder.path().join("files");
        for name in ["first", "second"] {
            let inputs = Inputs::of(Path::new(""), &name, &[], &[]).unwrap();
            let make = |unfinished: &[PathBuf]| {
                fs::create_dir(&unfinished[0]).and_then(|()| fs::write(unfinished[0].join(name), "")).map_err(Error::at(&output))
            };
            notes.make(&[&output], &inputs, make).unwrap();
            notes.make(&[&output], &inputs, |_| unreachable!("it is as it was made")).unwrap();
            let found: Vec<_> = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(found, [name]);
        }
    }

    #[test]
    fn a_part_that_several_need_at_once_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::in_folder(&folder.path().join("notes")).unwrap();
        let (output, times) = (folder.path().join("tool"), AtomicUsize::new(0));
        let inputs = Inputs::of(Path::new(""), &"definition", &[], &[]).unwrap();
        let together = Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    together.wait();
                    let make = |unfinished: &[PathBuf]| {
                        times.fetch_add(1, Ordering::Relaxed);
                        fs::write(&unfinished[0], "made").map_err(Error::at(&output))
                    };
                    notes.make(&[&output], &inputs, make).unwrap();
                });
            }
        });
        assert_eq!(times.into_inner(), 1);
    }

    #[test]
    fn files_are_named_as_they_are_in_the_work_tree() {
        let inputs_in = |name: &str| {
            let checkout = tempfile::tempdir().unwrap();
            let file = checkout.path().join(name);
            fs::write(&file, "same").unwrap();
            Inputs::of(checkout.path(), &"definition", &[file], &[]).unwrap()
        };
        assert_eq!(inputs_in("source"), inputs_in("source"));
        assert_ne!(inputs_in("source"), inputs_in("elsewhere"));
    }

    #[test]
    fn a_check_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (notes, output) = (Notes::in_folder(folder.path()).unwrap(), folder.path().join("tool"));
        let inputs = |definition: &str| Inputs::of(Path::new(""), &definition, &[], &[]).unwrap();
        let make = |unfinished: &[PathBuf]| fs::write(&unfinished[0], "made").map_err(Error::at(&output));
        notes.make(&[&output], &inputs("1"), make).unwrap();
        let check =
            |inputs: Inputs| Notes::to_check(folder.path()).make(&[&output], &inputs, |_| unreachable!("a check makes nothing"));
        assert!(check(inputs("1")).is_ok());
        assert!(matches!(check(inputs("2")), Err(Error::OutOfDate)));
        fs::write(&output, "edam").unwrap();
        assert!(matches!(check(inputs("1")), Err(Error::OutOfDate)));
    }

    #[test]
    fn what_failed_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::in_folder(folder.path()).unwrap();
        let output = folder.path().join("tool");
        fs::write(&output, "of an earlier build").unwrap();
        let inputs = Inputs::of(Path::new(""), &"definition", &[], &[]).unwrap();
        notes.make(&[&output], &inputs, |_| Err(Error::NoHome)).unwrap_err();
        assert_eq!(fs::read_to_string(&output).unwrap(), "of an earlier build");
        notes.make(&[&output], &inputs, |unfinished| fs::write(&unfinished[0], "made").map_err(Error::at(&output))).unwrap();
        assert_eq!(fs::read_to_string(&output).unwrap(), "made");
    }
}
