//! A step that outlives its connection.
//!
//! Started as a job, the work runs in a process of its own with a folder that only its user can enter; whoever asked gets the
//! result if it comes at once, and otherwise the folder's name. `--attach` then answers with what happened since, as often as it
//! is asked, and removes the folder with the answer that carries the result.
//!
//! The folder holds the executable, `events` (JSON lines), and at the end `result`. The worker keeps `events` locked for as long
//! as it lives, so a job without a result and without the lock is a job that died.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use converge::{Explain, Explanation, Failure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
    io::retry_on_intr,
};
use serde_json::{Value, json};

use crate::Report;

/// A step that is over within this time is answered at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one `--attach` waits for news.
const ATTENTION: Duration = Duration::from_secs(2);

/// What the worker writes to its caller once it can be attached to.
const READY: &[u8] = b"\n";

/// The worker ended without leaving a result.
#[derive(Debug, thiserror::Error)]
#[error("the step's process ended without a result (job folder {})", folder.display())]
struct JobLost {
    folder: PathBuf,
}

impl Explain for JobLost {
    fn explain(&self) -> Explanation {
        Explanation::new("JOB_LOST")
            .hint("it was killed, or the machine went down; run the play again, a step goes on from the live state")
    }
}

/// Runs the step in a process of its own. Gives its result if it is over soon, otherwise where to attach.
pub(crate) fn start(base: &Path, step: &str, arguments: &[u8]) -> io::Result<Value> {
    let folder = make_folder(base)?;
    let started = launch(&folder, step, arguments);
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            fs::remove_dir_all(&folder)?;
            return Err(error);
        }
    };
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    if receiver.recv_timeout(PATIENCE).is_ok() {
        return Ok(collect(&folder));
    }
    Ok(json!({
        "changed": false,
        "_k8slab_job": {
            "folder": folder,
            "attach": [folder.join("step"), Path::new("--attach"), &folder],
        },
    }))
}

fn make_folder(base: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(base)?;
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let folder = base.join(format!("k8slab-job-{}-{moment}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

fn launch(folder: &Path, step: &str, arguments: &[u8]) -> io::Result<Child> {
    let executable = folder.join("step");
    let own = env::current_exe()?;
    if fs::hard_link(&own, &executable).is_err() {
        fs::copy(&own, &executable)?;
    }
    let mut child = Command::new(&executable)
        .arg("--job")
        .arg(folder)
        .args(["--step", step])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    // By pipe, not by file: the arguments may hold secrets.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(arguments)?;
    }
    // Nobody may ask for news before the worker holds its lock. One that dies before that says nothing, and its end tells.
    if let Some(mut stdout) = child.stdout.take() {
        let _ = stdout.read_exact(&mut [0]);
    }
    Ok(child)
}

/// The worker's side: leaves the caller's session, so that a cut connection does not end it, and opens the events.
pub(crate) fn enter(folder: &Path) -> io::Result<File> {
    // Fails only for a process that already leads a session, which is what is wanted.
    let _ = rustix::process::setsid();
    let events = OpenOptions::new().append(true).create_new(true).mode(0o600).open(folder.join("events"))?;
    events.lock()?;
    // A caller that is gone by now is told nothing, and the work goes on.
    let _ = io::stdout().write_all(READY);
    let _ = io::stdout().flush();
    Ok(events)
}

/// The worker's last act.
pub(crate) fn leave(folder: &Path, result: &str) -> io::Result<()> {
    let unfinished = folder.join("result.part");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(result.as_bytes())?;
    fs::rename(unfinished, folder.join("result"))
}

/// Waits for something new in the folder and tells it.
pub(crate) fn attach(folder: &Path, from: u64) -> Value {
    // Where nothing can be watched, whoever asks will have to ask more often.
    let news = watch(folder, from).or_else(|_| look(folder, from)).unwrap_or(News { events: Vec::new(), from, over: true });
    let result = news.over.then(|| collect(folder));
    json!({"events": news.events, "from": news.from, "result": result})
}

struct News {
    events: Vec<Value>,
    from: u64,
    over: bool,
}

fn watch(folder: &Path, from: u64) -> io::Result<News> {
    let deadline = Instant::now() + ATTENTION;
    let inotify = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    let interesting = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&inotify, folder, interesting)?;
    let mut drain = [0; 4096];
    loop {
        let news = look(folder, from)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if news.over || !news.events.is_empty() || left.is_zero() {
            return Ok(news);
        }
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        if retry_on_intr(|| poll(&mut [PollFd::new(&inotify, PollFlags::IN)], Some(&timeout)))? > 0 {
            rustix::io::read(&inotify, &mut drain)?;
        }
    }
}

fn look(folder: &Path, from: u64) -> io::Result<News> {
    let mut events = File::open(folder.join("events"))?;
    let over = folder.join("result").exists() || events.try_lock().is_ok();
    events.seek(SeekFrom::Start(from))?;
    let mut text = String::new();
    events.read_to_string(&mut text)?;
    // A line that is still being written is left for the next look.
    let complete = text.rfind('\n').map_or(0, |end| end + 1);
    let events = text[..complete].lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ok(News { events, from: from + complete as u64, over })
}

fn collect(folder: &Path) -> Value {
    let result = fs::read(folder.join("result")).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let Some(result) = result else {
        return Report::default().failure(&Failure::from(JobLost { folder: folder.to_owned() }), false);
    };
    // The result is what counts; a folder that cannot be removed is litter below the user's own temporary folder.
    let _ = fs::remove_dir_all(folder);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_without_news_is_not_over() {
        let folder = tempfile::tempdir().unwrap();
        let events = File::create_new(folder.path().join("events")).unwrap();
        events.lock().unwrap();
        let start = Instant::now();
        assert_eq!(attach(folder.path(), 0), json!({"events": [], "from": 0, "result": null}));
        assert!(start.elapsed() >= ATTENTION);
    }

    #[test]
    fn a_job_that_died_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        File::create_new(folder.path().join("events")).unwrap();
        assert_eq!(attach(folder.path(), 0)["result"]["code"], "JOB_LOST");
    }
}
