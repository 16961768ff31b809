//! The one way to run a program.
//!
//! It has a deadline and no input, its words are kept for the error, and secrets reach it only by its environment. It runs in a group of
//! its own. When its time is over the whole group is ended; what a program leaves behind when it ends by itself goes on, and is not
//! waited for.

use std::{
    cell::RefCell,
    env,
    ffi::{OsStr, OsString},
    fmt,
    fs::File,
    io,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use converge::{Explain, Explanation, Secret};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin},
};

use crate::Error;

/// Where a shell without a login may not look.
const MORE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// As much of a program's words as a failure shows.
const TAIL_LINES: usize = 20;

/// How long the rest of its words may take to come once a process has ended. What it leaves behind may keep its pipes for ever.
const REST: Duration = Duration::from_secs(1);

/// How long a process that is asked to end may take.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A process to run. Its arguments are shown in failures and can be read by every user while it runs: no secret belongs there.
#[derive(Clone, Debug)]
pub struct Command {
    program: OsString,
    name: Option<OsString>,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    secrets: Vec<(&'static str, Secret)>,
    input: Option<Secret>,
    deadline: Duration,
    held: Option<Arc<File>>,
}

/// What a process wrote before it ended well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Command {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            name: None,
            arguments: Vec::new(),
            variables: vec![("LC_ALL".into(), "C.UTF-8".into())],
            secrets: Vec::new(),
            input: None,
            deadline: Duration::from_secs(60),
            held: None,
        }
    }

    /// Tells the program that it has this name, whatever its file is called: some are several programs in one.
    #[must_use]
    pub fn named(mut self, name: impl AsRef<OsStr>) -> Self {
        self.name = Some(name.as_ref().to_owned());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable that nobody else may see.
    #[must_use]
    pub fn secret_env(mut self, name: &'static str, value: &Secret) -> Self {
        self.secrets.push((name, value.clone()));
        self
    }

    /// Gives the process something to read, which nobody else may see.
    #[must_use]
    pub fn input(mut self, text: Secret) -> Self {
        self.input = Some(text);
        self
    }

    /// Ends the process when it takes longer. It is asked to end first, so that it can leave things in order.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Has the process keep a file open until it ends. A lock on the file is then held for as long as the process lives, even if
    /// whoever started it is killed before. The file is its standard input, so it gets no other one.
    #[must_use]
    pub fn holding(mut self, file: &Arc<File>) -> Self {
        self.held = Some(Arc::clone(file));
        self
    }

    /// Runs the process to its end, which must be a good one.
    pub async fn execute(&self) -> Result<Output, Error> {
        self.execute_telling(|_| {}).await
    }

    /// Runs the process to its end, and tells each line of its standard error when it is written.
    pub async fn execute_telling(&self, mut tell: impl FnMut(&str)) -> Result<Output, Error> {
        let path = env::var("PATH").unwrap_or_default();
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.arguments).env("PATH", format!("{path}:{MORE_PATH}").trim_start_matches(':'));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.envs(self.secrets.iter().map(|(name, value)| (name, value.expose())));
        if let Some(name) = &self.name {
            command.arg0(name);
        }
        let held = self.held.as_ref().and_then(|file| file.try_clone().ok());
        command.stdin(if self.input.is_some() { Stdio::piped() } else { held.map_or_else(Stdio::null, Stdio::from) });
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).process_group(0);
        let mut child = command.spawn().map_err(|error| self.not_started(error))?;
        let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = (RefCell::default(), RefCell::default());
        let talk =
            async { tokio::try_join!(self.write(stdin), read(out, &stdout, |_| {}), read(err, &stderr, &mut tell)).map(drop) };
        let run = async {
            tokio::pin!(talk);
            let status = tokio::select! {
                ended = &mut talk => {
                    ended?;
                    return child.wait().await;
                }
                status = child.wait() => status?,
            };
            if let Ok(ended) = tokio::time::timeout(REST, talk).await {
                ended?;
            }
            Ok(status)
        };
        let Ok(ended) = tokio::time::timeout(self.deadline, run).await else {
            stop(&mut child).await;
            return Err(CommandError::Timeout { command: self.to_string(), deadline: self.deadline }.into());
        };
        let status = ended.map_err(|source| CommandError::NotStarted { command: self.to_string(), source })?;
        let (stdout, stderr) = (stdout.into_inner(), stderr.into_inner());
        if status.success() {
            return Ok(Output { stdout, stderr });
        }
        let words = if stderr.trim().is_empty() { &stdout } else { &stderr };
        Err(CommandError::Failed { command: self.to_string(), status: status.to_string(), tail: tail(words) }.into())
    }

    /// What the process is to read. One that ends without reading it all says why by its exit status.
    async fn write(&self, pipe: Option<ChildStdin>) -> io::Result<()> {
        let (Some(mut pipe), Some(text)) = (pipe, &self.input) else { return Ok(()) };
        match pipe.write_all(text.expose().as_bytes()).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    fn not_started(&self, error: io::Error) -> CommandError {
        let command = self.to_string();
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => CommandError::Missing { program: self.program.to_string_lossy().into_owned() },
            Some(Errno::NOEXEC) => CommandError::Format { program: self.program.to_string_lossy().into_owned() },
            _ => CommandError::NotStarted { command, source: error },
        }
    }
}

/// As a person would type it.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program.to_string_lossy())?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", argument.to_string_lossy()))
    }
}

/// Takes everything that a process writes to one of its pipes.
async fn read(pipe: Option<impl AsyncRead + Unpin>, text: &RefCell<String>, mut tell: impl FnMut(&str)) -> io::Result<()> {
    let Some(pipe) = pipe else { return Ok(()) };
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).await? > 0 {
        let words = String::from_utf8_lossy(&line);
        tell(words.trim_end());
        text.borrow_mut().push_str(&words);
        line.clear();
    }
    Ok(())
}

/// Asks a process and those that it has started to end, and kills them when they do not.
async fn stop(child: &mut Child) {
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    // Fails for one that has ended by now.
    let end = |signal| group.map(|group| kill_process_group(group, signal));
    end(Signal::TERM);
    let _ = tokio::time::timeout(LAST_WORDS, child.wait()).await;
    end(Signal::KILL);
    let _ = child.kill().await;
}

fn tail(words: &str) -> String {
    let lines: Vec<_> = words.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Why a program was not run to a good end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program is not installed.
    #[error("the program {program} is not there")]
    Missing {
        /// Its name.
        program: String,
    },
    /// The program is for another kind of machine.
    #[error("{program} cannot run on this kind of machine")]
    Format {
        /// Its path.
        program: String,
    },
    /// The process could not be started.
    #[error("`{command}` cannot be started")]
    NotStarted {
        /// The command line.
        command: String,
        /// The system's words.
        source: io::Error,
    },
    /// The process ended badly.
    #[error("`{command}` ended with {status}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status or signal.
        status: String,
        /// Its last words.
        tail: String,
    },
    /// The process took too long and was ended.
    #[error("`{command}` did not end within {} s", deadline.as_secs())]
    Timeout {
        /// The command line.
        command: String,
        /// How long it was waited for.
        deadline: Duration,
    },
}

impl Explain for CommandError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Missing { .. } => Explanation::new("COMMAND_MISSING").hint("install the package that brings it"),
            Self::Format { .. } => {
                Explanation::new("EXEC_FORMAT").hint("the file is for another CPU architecture, or damaged; look at it with `file`")
            }
            Self::NotStarted { .. } => Explanation::new("COMMAND_FAILED"),
            Self::Failed { tail, .. } => Explanation::new("COMMAND_FAILED").detail(tail.as_str()),
            Self::Timeout { .. } => Explanation::new("COMMAND_TIMEOUT").hint("run the command by hand to see what it waits for"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Instant};

    use converge::Explain as _;

    use super::*;

    fn shell(script: &str) -> Command {
        Command::new("sh").arg("-c").arg(script)
    }

    #[tokio::test]
    async fn the_output_of_a_good_end() {
        let output = shell("echo out; echo err >&2; echo $LC_ALL").execute().await.unwrap();
        assert_eq!(output, Output { stdout: "out\nC.UTF-8\n".into(), stderr: "err\n".into() });
    }

    #[tokio::test]
    async fn a_bad_end_has_its_status_and_last_words() {
        let error = shell("seq 100 >&2; exit 7").execute().await.unwrap_err();
        assert_eq!(error.code(), "COMMAND_FAILED");
        assert_eq!(error.to_string(), "`sh -c seq 100 >&2; exit 7` ended with exit status: 7");
        let detail = error.detail().unwrap();
        assert!(detail.starts_with("81\n") && detail.ends_with("\n100"), "{detail}");
    }

    #[tokio::test]
    async fn lines_are_told_as_they_come() {
        let mut told = Vec::new();
        let command = shell("echo one >&2; echo out; printf 'two\\r\\nthree' >&2");
        let output = command.execute_telling(|line| told.push(line.to_owned())).await.unwrap();
        assert_eq!(output, Output { stdout: "out\n".into(), stderr: "one\ntwo\r\nthree".into() });
        assert_eq!(told, ["one", "two", "three"]);
    }

    #[tokio::test]
    async fn a_secret_goes_to_the_process_and_nowhere_else() {
        let command = shell("test ${#TOKEN} = 7 || echo wrong; exit 7").secret_env("TOKEN", &Secret::from("hunter2".to_owned()));
        assert!(!format!("{command:?} {command}").contains("hunter2"), "{command:?}");
        assert_eq!(command.execute().await.unwrap_err().detail(), None, "the process had it");
    }

    #[tokio::test]
    async fn a_process_that_hangs_is_ended() {
        let start = Instant::now();
        let error = shell("exec sleep 60").within(Duration::from_millis(100)).execute().await.unwrap_err();
        assert_eq!(error.code(), "COMMAND_TIMEOUT");
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn what_is_left_behind_is_not_waited_for() {
        let start = Instant::now();
        let output = shell("echo out; sleep 20 & echo err >&2").execute().await.unwrap();
        assert_eq!(output, Output { stdout: "out\n".into(), stderr: "err\n".into() });
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn what_hangs_is_ended_with_all_that_it_has_started() {
        let folder = tempfile::tempdir().unwrap();
        let id = folder.path().join("id");
        let script = format!("sleep 60 & echo $! >{}; wait", id.display());
        let error = shell(&script).within(Duration::from_millis(300)).execute().await.unwrap_err();
        assert_eq!(error.code(), "COMMAND_TIMEOUT");
        let state = Path::new("/proc").join(fs::read_to_string(id).unwrap().trim()).join("stat");
        // Whoever inherits it may not have noticed yet.
        let is_over = || fs::read_to_string(&state).map_or(true, |stat| stat.contains(") Z "));
        let over = async || Ok::<_, converge::WaitError>(if is_over() { Ok(()) } else { Err("it runs") });
        converge::Wait::for_condition("it has ended", Duration::from_secs(10)).until(over).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_is_asked_to_end_before_it_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("in-order");
        let script = format!("trap 'touch {}; exit 0' TERM; sleep 60 & wait", mark.display());
        let error = shell(&script).within(Duration::from_millis(300)).execute().await.unwrap_err();
        assert_eq!(error.code(), "COMMAND_TIMEOUT");
        assert!(mark.exists());
    }

    #[tokio::test]
    async fn input_goes_to_the_process_and_nowhere_else() {
        let command = shell("cat").input(Secret::from("hunter2".to_owned()));
        assert!(!format!("{command:?} {command}").contains("hunter2"), "{command:?}");
        assert_eq!(command.execute().await.unwrap().stdout, "hunter2");
        let unread = shell("exit 3").input(Secret::from("x".repeat(1 << 20)));
        assert_eq!(unread.execute().await.unwrap_err().code(), "COMMAND_FAILED");
    }

    #[tokio::test]
    async fn a_lock_is_held_until_the_process_ends() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Arc::new(crate::file::try_lock(folder.path()).unwrap().unwrap());
        let holder = shell("exec sleep 60").holding(&lock);
        drop(lock);
        let running = tokio::time::timeout(Duration::from_millis(300), holder.execute());
        let second = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            crate::file::try_lock(folder.path()).unwrap().is_none()
        };
        let (_, is_held) = tokio::join!(running, second);
        drop(holder);
        assert!(is_held);
        let free = async || Ok::<_, converge::WaitError>(crate::file::try_lock(folder.path()).unwrap().ok_or("held"));
        converge::Wait::for_condition("the lock is free", Duration::from_secs(10)).until(free).await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_started_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = folder.path().join("foreign");
        fs::write(&foreign, b"\x7fELF for another machine").unwrap();
        fs::set_permissions(&foreign, fs::Permissions::from_mode(0o755)).unwrap();
        for (program, code) in [(foreign.as_path(), "EXEC_FORMAT"), (&folder.path().join("absent"), "COMMAND_MISSING")] {
            assert_eq!(Command::new(program).execute().await.unwrap_err().code(), code);
        }
    }
}
