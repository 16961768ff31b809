//! Parts that are made only when something that they are made of has changed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use bundle::hexadecimal;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Error, say};

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
        Ok(Self(hexadecimal(&digest.finalize())))
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

    /// Makes the part at `output`, unless it is there and was made of the same.
    pub fn make(&self, output: &Path, inputs: &Inputs, make: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let lock = Arc::clone(self.locks.lock().unwrap_or_else(PoisonError::into_inner).entry(output.to_owned()).or_default());
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let name = output.file_name().unwrap_or_default().to_string_lossy();
        // Parts in different folders may have the same name.
        let note = self.folder.join(hexadecimal(&Sha256::digest(output.as_os_str().as_encoded_bytes())[..8]));
        if output.exists() && fs::read_to_string(&note).is_ok_and(|last| last == inputs.0) {
            return Ok(());
        }
        if self.check {
            return Err(Error::OutOfDate);
        }
        say(format_args!("    {name} ..."));
        let start = Instant::now();
        if let Some(folder) = output.parent() {
            fs::create_dir_all(folder).map_err(Error::at(folder))?;
        }
        if note.exists() {
            fs::remove_file(&note).map_err(Error::at(&note))?;
        }
        make()?;
        fs::write(&note, &inputs.0).map_err(Error::at(&note))?;
        say(format_args!("    {name}: {:.1} s", start.elapsed().as_secs_f64()));
        Ok(())
    }
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
            notes.make(&output, &inputs, || {
                made.set(made.get() + 1);
                fs::write(&output, "made").map_err(Error::at(&output))
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
        fs::remove_file(&output).unwrap();
        build("another definition").unwrap();
        assert_eq!(made.get(), 4);
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
                    let make = || {
                        times.fetch_add(1, Ordering::Relaxed);
                        fs::write(&output, "made").map_err(Error::at(&output))
                    };
                    notes.make(&output, &inputs, make).unwrap();
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
        notes.make(&output, &inputs("1"), || fs::write(&output, "made").map_err(Error::at(&output))).unwrap();
        let check =
            |inputs: Inputs| Notes::to_check(folder.path()).make(&output, &inputs, || unreachable!("a check makes nothing"));
        assert!(check(inputs("1")).is_ok());
        assert!(matches!(check(inputs("2")), Err(Error::OutOfDate)));
    }

    #[test]
    fn what_failed_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::in_folder(folder.path()).unwrap();
        let output = folder.path().join("tool");
        fs::write(&output, "of an earlier build").unwrap();
        let inputs = Inputs::of(Path::new(""), &"definition", &[], &[]).unwrap();
        notes.make(&output, &inputs, || Err(Error::NoHome)).unwrap_err();
        let mut made = false;
        notes
            .make(&output, &inputs, || {
                made = true;
                Ok(())
            })
            .unwrap();
        assert!(made);
    }
}
