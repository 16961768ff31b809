//! What a job tells to whoever attaches to it.
//!
//! A job has finished with a result, died without one, or has one that cannot be read; these are three answers.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use converge::{Explain, Explanation, Failure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
    io::retry_on_intr,
    process::{Pid, Signal, kill_process},
};
use serde_json::{Value, json};

use crate::{
    Report,
    job::{self, EVENTS, RESULT, UNFINISHED, WORKER},
};

/// How long one `--attach` waits for news.
const ATTENTION: Duration = Duration::from_secs(2);
/// How often it looks where nothing can be watched.
const GLANCE: Duration = Duration::from_millis(200);

/// There is no result.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error("the step's process ended without a result (job folder {})", folder.display())]
    Died { folder: PathBuf, last: Option<String> },
    #[error("there is no job in {}", .0.display())]
    Gone(PathBuf),
    #[error("the step has ended, but its result cannot be read (job folder {})", folder.display())]
    Unreadable { folder: PathBuf, source: io::Error },
}

impl Explain for JobError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Died { last, .. } => {
                let died = Explanation::new("JOB_LOST")
                    .hint("it was killed, or the machine went down; run the play again, a step goes on from the live state");
                match last {
                    Some(last) => died.detail(format!("it last said: {last}")),
                    None => died,
                }
            }
            Self::Gone(_) => {
                Explanation::new("JOB_LOST").hint("somebody else has taken its result; run the play again to see how things are")
            }
            Self::Unreadable { .. } => {
                Explanation::new("JOB_UNREADABLE").hint("the folder is left as it is; run the play again to see how things are")
            }
        }
    }
}

/// Waits for something new in the folder and tells it.
pub(crate) fn attach(folder: &Path, from: u64) -> Value {
    let news = match watch(folder, from) {
        Ok(news) => news,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return ended(from, &failure(JobError::Gone(folder.into()))),
        Err(source) => return ended(from, &failure(JobError::Unreadable { folder: folder.into(), source })),
    };
    let result = news.over.then(|| collect(folder));
    json!({"events": news.events, "from": news.from, "result": result})
}

fn ended(from: u64, result: &Value) -> Value {
    json!({"events": [], "from": from, "result": result})
}

struct News {
    events: Vec<Value>,
    from: u64,
    over: bool,
}

fn watch(folder: &Path, from: u64) -> io::Result<News> {
    let deadline = Instant::now() + ATTENTION;
    let watcher = watcher(folder).ok();
    let mut drain = [0; 4096];
    loop {
        let news = look(folder, from)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if news.over || !news.events.is_empty() || left.is_zero() {
            return Ok(news);
        }
        // A host may have no watches left, and a file system may have none.
        let Some(watcher) = &watcher else {
            thread::sleep(left.min(GLANCE));
            continue;
        };
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        if retry_on_intr(|| poll(&mut [PollFd::new(watcher, PollFlags::IN)], Some(&timeout)))? > 0 {
            rustix::io::read(watcher, &mut drain)?;
        }
    }
}

fn watcher(folder: &Path) -> io::Result<OwnedFd> {
    let inotify = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    let interesting = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&inotify, folder, interesting)?;
    Ok(inotify)
}

fn look(folder: &Path, from: u64) -> io::Result<News> {
    let mut events = File::open(folder.join(EVENTS))?;
    let over = folder.join(RESULT).exists() || job::is_unlocked(&events);
    events.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    events.read_to_end(&mut bytes)?;
    // A line that is still being written is left for the next look; one that was spoiled is no reason to hear no other.
    let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let events = bytes[..complete].split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    Ok(News { events, from: from + complete as u64, over })
}

/// Asks whoever works on the job to stop at the next safe point. Nobody does once the job is over.
pub(crate) fn ask_to_stop(folder: &Path) {
    let worker = fs::read_to_string(folder.join(WORKER)).ok().and_then(|text| Pid::from_raw(text.parse().ok()?));
    // Only whoever holds the lock has this number; afterwards it may be another process's.
    if let Some(worker) = worker.filter(|_| !has_ended(folder)) {
        // It may have ended just now.
        let _ = kill_process(worker, Signal::TERM);
    }
}

/// Whether nobody works on the job any more.
pub(crate) fn has_ended(folder: &Path) -> bool {
    File::open(folder.join(EVENTS)).is_ok_and(|events| job::is_unlocked(&events))
}

/// The result of a job that is over. What was told is not kept.
pub(crate) fn collect(folder: &Path) -> Value {
    let result = match read(folder) {
        Ok(result) => result,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let last = look(folder, 0).ok().and_then(|news| Some(news.events.last()?["message"].as_str()?.to_owned()));
            return failure(JobError::Died { folder: folder.to_owned(), last });
        }
        Err(source) => return failure(JobError::Unreadable { folder: folder.to_owned(), source }),
    };
    // The result is what counts; a folder that cannot be removed is litter below the user's own temporary folder.
    let _ = fs::remove_dir_all(folder);
    result
}

fn read(folder: &Path) -> io::Result<Value> {
    match fs::read(folder.join(RESULT)) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        // A full disk may have had no room for the new name.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = fs::read(folder.join(UNFINISHED))?;
            serde_json::from_slice(&text).map_err(|_| error)
        }
        Err(error) => Err(error),
    }
}

fn failure(error: JobError) -> Value {
    Report::default().failure(&Failure::from(error), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> (tempfile::TempDir, File) {
        let folder = tempfile::tempdir().unwrap();
        let events = File::create_new(folder.path().join(EVENTS)).unwrap();
        events.lock().unwrap();
        (folder, events)
    }

    #[test]
    fn a_job_without_news_is_not_over() {
        let (folder, _events) = job();
        let start = Instant::now();
        assert_eq!(attach(folder.path(), 0), json!({"events": [], "from": 0, "result": null}));
        assert!(start.elapsed() >= ATTENTION);
    }

    #[test]
    fn finished_died_and_unreadable_are_three_answers() {
        let cases: [(&str, Option<&[u8]>, &str); 5] = [
            (RESULT, Some(br#"{"code": "OWN"}"#), "OWN"),
            (UNFINISHED, Some(br#"{"code": "OWN"}"#), "OWN"),
            (UNFINISHED, Some(br#"{"code": "OW"#), "JOB_LOST"),
            (RESULT, Some(br#"{"code": "OW"#), "JOB_UNREADABLE"),
            (RESULT, None, "JOB_LOST"),
        ];
        for (name, text, code) in cases {
            let (folder, events) = job();
            if let Some(text) = text {
                fs::write(folder.path().join(name), text).unwrap();
            }
            drop(events);
            assert_eq!(attach(folder.path(), 0)["result"]["code"], code, "{name}: {text:?}");
        }
        let unreadable = tempfile::tempdir().unwrap();
        fs::create_dir(unreadable.path().join(EVENTS)).unwrap();
        assert_eq!(attach(unreadable.path(), 0)["result"]["code"], "JOB_UNREADABLE");
    }

    #[test]
    fn a_spoiled_line_costs_itself_and_no_other() {
        let (folder, events) = job();
        fs::write(folder.path().join(EVENTS), b"{\"message\": \"a\"}\n{\"mess\xff\n{\"message\": \"b\"}\n{\"unfin").unwrap();
        let news = attach(folder.path(), 0);
        assert_eq!(news["events"], json!([{"message": "a"}, {"message": "b"}]));
        assert_eq!((&news["from"], &news["result"]), (&json!(42), &Value::Null));
        drop(events);
        assert_eq!(attach(folder.path(), 42)["result"]["detail"], "it last said: b");
    }
}
