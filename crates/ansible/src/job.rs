//! A step that outlives its connection.
//!
//! Started as a job, the work runs in a process of its own with a folder that only its user can enter; whoever asked gets the
//! result if it comes at once, and otherwise the folder's name. `--attach` then answers with what happened since, as often as it
//! is asked, and removes the folder with the answer that carries the result.
//!
//! The folder holds `events` (JSON lines), and at the end `result`. The worker keeps `events` locked for as long as it lives, so a
//! job without a result and without the lock is a job that died. Room for the result is taken before the work begins, so that a
//! disk that is full by then costs its details at the most.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{FallocateFlags, fallocate};
use serde_json::{Map, Value, json};

use crate::attach;

pub(crate) const EVENTS: &str = "events";
pub(crate) const RESULT: &str = "result";
/// The worker's process.
pub(crate) const WORKER: &str = "worker";
/// A result that is still being written.
pub(crate) const UNFINISHED: &str = "result.part";

/// How the folders of jobs are called.
const PREFIX: &str = "k8slab-job-";
/// A step that is over within this time is answered at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// A job whose result nobody has asked for since is nobody's any more.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

/// What the worker writes to its caller once it can be attached to.
const READY: &[u8] = b"\n";
/// What is taken of the disk for the result before the work begins.
const RESERVE: u64 = 64 * 1024;
/// What is kept of a result that does not fit on the disk, and how much of each text.
const ESSENTIALS: [&str; 7] = ["changed", "failed", "msg", "code", "stage", "hints", "detail"];
const ESSENTIAL_LETTERS: usize = 2000;

/// Runs the step in a process of its own. Gives its result if it is over soon, otherwise where to attach.
pub(crate) fn start(base: &Path, step: &str, arguments: &[u8]) -> io::Result<Value> {
    // As Ansible makes it: what is below is nobody else's business.
    DirBuilder::new().mode(0o700).recursive(true).create(base)?;
    sweep(base);
    let folder = make_folder(base)?;
    let mut child = match launch(&folder, step, arguments) {
        Ok(child) => child,
        Err(error) => {
            fs::remove_dir_all(&folder)?;
            return Err(error);
        }
    };
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    if receiver.recv_timeout(PATIENCE).is_ok() {
        return Ok(attach::collect(&folder));
    }
    let executable = env::current_exe()?;
    Ok(json!({
        "changed": false,
        "_k8slab_job": {"folder": folder, "attach": [executable, Path::new("--attach"), &folder]},
    }))
}

fn make_folder(base: &Path) -> io::Result<PathBuf> {
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let folder = base.join(format!("{PREFIX}{}-{moment}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

/// Removes jobs of the same user that have ended, and whose result nobody has come for.
fn sweep(base: &Path) {
    let own = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let folder = entry.path();
        let is_job = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // Not that of the folder, which its owner may have looked into.
        let Ok(events) = folder.join(EVENTS).symlink_metadata() else { continue };
        let is_old = events.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > FORGOTTEN));
        if is_job && is_old && events.uid() == own && attach::has_ended(&folder) {
            // What cannot be removed is litter below the user's own temporary folder, and no reason not to work.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn launch(folder: &Path, step: &str, arguments: &[u8]) -> io::Result<Child> {
    let mut child = Command::new(env::current_exe()?)
        .arg("--job")
        .arg(folder)
        .args(["--step", step])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    // By pipe, not by file: the arguments may hold secrets. A worker that is gone by now says nothing below.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(arguments);
    }
    // Nobody may ask for news before the worker holds its lock. One that says nothing could not begin.
    let ready = child.stdout.take().map_or(Ok(()), |mut stdout| stdout.read_exact(&mut [0]));
    if let Err(error) = ready {
        child.wait()?;
        return Err(error);
    }
    Ok(child)
}

/// The worker's side: leaves the caller's session, so that a cut connection does not end it, and opens the events.
pub(crate) fn enter(folder: &Path) -> io::Result<File> {
    // Fails only for a process that already leads a session, which is what is wanted.
    let _ = rustix::process::setsid();
    let create = |name: &str| OpenOptions::new().append(true).create_new(true).mode(0o600).open(folder.join(name));
    let events = create(EVENTS)?;
    events.lock()?;
    write!(create(WORKER)?, "{}", std::process::id())?;
    match fallocate(&create(UNFINISHED)?, FallocateFlags::KEEP_SIZE, 0, RESERVE) {
        // Not every file system can promise room.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    // A caller that is gone by now is told nothing, and the work goes on.
    let _ = io::stdout().write_all(READY);
    let _ = io::stdout().flush();
    Ok(events)
}

/// The worker's last act.
pub(crate) fn leave(folder: &Path, result: &Value) -> io::Result<()> {
    let unfinished = folder.join(UNFINISHED);
    let write = |text: &str| -> io::Result<()> {
        // Over the room that was taken, which cutting the file would give back.
        let mut file = OpenOptions::new().write(true).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    };
    if let Err(error) = write(&result.to_string()) {
        write(&essentials(result, &error).to_string())?;
    }
    fs::rename(unfinished, folder.join(RESULT))
}

/// A result in few words.
fn essentials(result: &Value, error: &io::Error) -> Value {
    let shorten = |value: &Value| match value.as_str().and_then(|text| Some((text, text.char_indices().nth(ESSENTIAL_LETTERS)?))) {
        Some((text, (end, _))) => json!(&text[..end]),
        None => value.clone(),
    };
    let mut brief: Map<String, Value> =
        ESSENTIALS.iter().filter_map(|key| Some(((*key).to_owned(), shorten(result.get(*key)?)))).collect();
    brief.insert("stages".into(), json!([]));
    brief.insert("changes".into(), json!([]));
    brief.insert("warnings".into(), json!([format!("the host could not keep the details of this result: {error}")]));
    brief.into()
}

/// Whether nobody holds the lock of a job's events.
pub(crate) fn is_unlocked(events: &File) -> bool {
    !matches!(events.try_lock(), Err(TryLockError::WouldBlock))
}
