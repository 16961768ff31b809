//! The command line: what Ansible calls, and what a person calls by hand.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    panic,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::{Arg, ArgMatches, Command, value_parser};
use converge::{AbsolutePath, Explain, Explanation, Failure};
use serde_json::{Map, Value};

use crate::{
    OptionError, OptionTable, Reference, Report, Run, Step, VERSION, attach, interrupt, job, ledger, path, progress,
    reference::Format,
};

/// What Ansible writes for numbers that JSON does not have.
const NO_NUMBERS: [&str; 2] = ["NaN", "Infinity"];

/// A step as the command line sees it: its name, how to run it, and its documentation.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The module's name.
    pub name: &'static str,
    /// Its documentation.
    pub reference: fn() -> Reference,
    run: fn(&Arguments) -> Value,
}

impl Entry {
    /// The entry of a step.
    #[must_use]
    pub fn of<S: Step>() -> Self {
        Self { name: S::NAME, reference: Reference::of::<S>, run: run::<S> }
    }
}

/// Runs one step as a program.
#[must_use]
pub fn main<S: Step>() -> ExitCode {
    main_of(&[Entry::of::<S>()])
}

/// Runs whichever of the steps is asked for: by `_ansible_module_name`, else by the name of the executable.
#[must_use]
pub fn main_of(entries: &[Entry]) -> ExitCode {
    let matches = command(entries).get_matches();
    let answer = match matches.get_one::<PathBuf>("job") {
        Some(folder) => work(entries, &matches, folder),
        None => respond(entries, &matches),
    };
    match answer {
        Ok(code) => code,
        // Nobody is left to tell: the pipe to the caller is gone.
        Err(_) => ExitCode::FAILURE,
    }
}

fn command(entries: &[Entry]) -> Command {
    let (name, about) = match entries {
        [entry] => (entry.name, (entry.reference)().help()),
        _ => ("k8slab-steps", format!("All steps of {}: {}", crate::COLLECTION, names(entries))),
    };
    Command::new(name)
        .version(VERSION)
        .about(about.lines().next().unwrap_or_default().to_owned())
        .after_help(about)
        .arg(
            Arg::new("arguments")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("A JSON object of options, as Ansible writes it; `-` reads it from standard input"),
        )
        .arg(
            Arg::new("docs")
                .long("docs")
                .value_name("FORMAT")
                .num_args(0..=1)
                .default_missing_value("documentation")
                .value_parser(Format::parse)
                .help(
                    "Print the step's reference: documentation, examples, return, stub, argument-specs, defaults, tasks or readme",
                ),
        )
        .arg(Arg::new("step").long("step").value_name("NAME").help("The step to run, where the executable holds several"))
        .arg(
            Arg::new("attach")
                .long("attach")
                .value_name("JOB")
                .value_parser(value_parser!(PathBuf))
                .help("Tell what a step started as a job has done"),
        )
        .arg(
            Arg::new("from")
                .long("from")
                .value_name("OFFSET")
                .value_parser(value_parser!(u64))
                .default_value("0")
                .help("Leave out what was told before"),
        )
        .arg(
            Arg::new("stop")
                .long("stop")
                .requires("attach")
                .action(clap::ArgAction::SetTrue)
                .help("Ask the step first to stop between two changes; waits end at once"),
        )
        .arg(
            Arg::new("mark")
                .long("mark")
                .value_name("WORD")
                .help("Put the answer between two lines with this word, so that it is found among those of others"),
        )
        .arg(Arg::new("job").long("job").value_parser(value_parser!(PathBuf)).hide(true))
}

fn respond(entries: &[Entry], matches: &ArgMatches) -> io::Result<ExitCode> {
    if let Some(format) = matches.get_one::<Format>("docs") {
        return match choose(entries, matches, None) {
            Ok(entry) => print((entry.reference)().render(*format).trim_end()),
            Err(error) => Answer::default().end(&failed(error)),
        };
    }
    let marked = matches.get_one::<String>("mark").cloned();
    if let Some(folder) = matches.get_one::<PathBuf>("attach") {
        let answer = Answer { mark: marked };
        answer.begin()?;
        if matches.get_flag("stop") {
            attach::ask_to_stop(folder);
        }
        return answer.end(&attach::attach(folder, matches.get_one::<u64>("from").copied().unwrap_or_default()));
    }
    let Some(file) = matches.get_one::<PathBuf>("arguments") else {
        command(entries).print_help()?;
        return Ok(ExitCode::FAILURE);
    };
    let prepared = read(file).and_then(|arguments| Ok((choose(entries, matches, Some(&arguments))?, arguments)));
    let by_arguments = prepared.as_ref().ok().and_then(|(_, arguments)| arguments.text("_k8slab_mark"));
    let answer = Answer { mark: marked.or(by_arguments) };
    answer.begin()?;
    answer_panics_with({
        let answer = answer.clone();
        move |result| {
            let _ = answer.end(&result);
            std::process::exit(1);
        }
    });
    let (entry, arguments) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return answer.end(&failed(error)),
    };
    let detached = arguments.job_base().and_then(|base| job::start(&base, entry.name, arguments.text.as_bytes()).ok());
    // Where no job can be had, say on a folder mounted noexec, a step simply runs.
    let result = detached.unwrap_or_else(|| (entry.run)(&arguments));
    answer.end(&result).inspect_err(|_| {
        // Nobody was told of the job, so nobody will ask for it.
        if let Some(folder) = result["_k8slab_job"]["folder"].as_str() {
            attach::ask_to_stop(Path::new(folder));
        }
    })
}

/// The detached half of a job.
fn work(entries: &[Entry], matches: &ArgMatches, folder: &Path) -> io::Result<ExitCode> {
    let events = job::enter(folder)?;
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let lost = folder.to_owned();
    answer_panics_with(move |result| {
        let _ = job::leave(&lost, &result);
        std::process::exit(1);
    });
    progress::record_to(events);
    let result = match Arguments::parse(text).and_then(|arguments| Ok((choose(entries, matches, Some(&arguments))?, arguments))) {
        Ok((entry, arguments)) => (entry.run)(&arguments),
        Err(error) => failed(error),
    };
    job::leave(folder, &result)?;
    Ok(ExitCode::SUCCESS)
}

fn choose(entries: &[Entry], matches: &ArgMatches, arguments: Option<&Arguments>) -> Result<Entry, OptionError> {
    if let [entry] = entries {
        return Ok(*entry);
    }
    let called = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let called = called.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let asked = matches.get_one::<String>("step").cloned();
    let name = asked.or_else(|| arguments?.text("_ansible_module_name")).unwrap_or(called);
    let name = name.rsplit('.').next().unwrap_or_default();
    let name = name.strip_prefix("AnsiballZ_").unwrap_or(name);
    entries
        .iter()
        .find(|entry| entry.name == name)
        .copied()
        .ok_or_else(|| OptionError::NoStep { step: name.to_owned(), known: names(entries) })
}

fn names(entries: &[Entry]) -> String {
    entries.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
}

/// What Ansible hands over: options, and its own keys.
struct Arguments {
    text: String,
    values: Map<String, Value>,
}

fn read(file: &Path) -> Result<Arguments, OptionError> {
    let text = if file == Path::new("-") { io::read_to_string(io::stdin()) } else { fs::read_to_string(file) };
    Arguments::parse(text.map_err(|error| OptionError::Unreadable { reason: format!("{error} ({})", file.display()) })?)
}

impl Arguments {
    fn parse(text: String) -> Result<Self, OptionError> {
        // The parser's own words may quote the input, and the input may hold secrets.
        let unreadable = |error: serde_json::Error| {
            let rest =
                text.lines().nth(error.line().saturating_sub(1)).and_then(|line| line.get(error.column().saturating_sub(1)..));
            match rest.and_then(|rest| NO_NUMBERS.iter().find(|word| rest.starts_with(**word))) {
                Some(word) => OptionError::NoNumber((*word).into()),
                None => OptionError::Unreadable { reason: format!("line {}, column {}", error.line(), error.column()) },
            }
        };
        let values = serde_json::from_str(&text).map_err(unreadable)?;
        Ok(Self { text, values })
    }

    fn private(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    fn text(&self, key: &str) -> Option<String> {
        self.private(key)?.as_str().map(str::to_owned)
    }

    fn flag(&self, key: &str) -> bool {
        self.private(key).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The options that were given. What a default for all steps alike sets, and this one does not have, was not meant for it.
    fn options(&self, table: &OptionTable) -> Map<String, Value> {
        let shared: Vec<&str> =
            self.private("_k8slab_defaults").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let own = |key: &str| !key.starts_with("_ansible_") && !key.starts_with("_k8slab_");
        let meant = |key: &str| table.find(key).is_some() || !shared.contains(&key);
        self.values.iter().filter(|(key, _)| own(key) && meant(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Whether the user asked for so many words that the options, too, are shown.
    fn wants_invocation(&self) -> bool {
        self.private("_ansible_verbosity").and_then(Value::as_i64).is_some_and(|verbosity| verbosity > 2)
    }

    /// Where a job may put its folder, if the caller wants one and can attach to it.
    fn job_base(&self) -> Option<PathBuf> {
        if !self.flag("_k8slab_job") || self.flag("_ansible_check_mode") {
            return None;
        }
        let base = self.text("_ansible_remote_tmp")?;
        AbsolutePath::new(&path::expand(&base)).map(|path| path.to_path_buf())
    }
}

fn run<S: Step>(arguments: &Arguments) -> Value {
    let mut run = Run::new(arguments.flag("_ansible_check_mode"));
    let with_diff = arguments.flag("_ansible_diff");
    let table = OptionTable::of::<S>().with_switches(S::SECTIONS);
    let resolved = table.resolve(&arguments.options(&table));
    let invocation = resolved.as_ref().ok().filter(|_| arguments.wants_invocation()).map(|options| table.shown(options));
    let subject = resolved.as_ref().map(|options| table.subject(options)).unwrap_or_default();
    let mut result = match resolved.map_err(Failure::from).and_then(|options| converge::<S>(options, &subject, &mut run)) {
        Ok(facts) => {
            let is_secret = facts.as_ref().is_some_and(carries_secret::<S>);
            let mut result = run.report.success(facts, with_diff);
            if is_secret {
                result["_k8slab_secret"] = true.into();
            }
            result
        }
        Err(failure) => {
            let stage = Some(run.stage.clone());
            run.report.failure(&Failure { stage, ..failure }, with_diff)
        }
    };
    if let Some(options) = invocation {
        result["invocation"] = serde_json::json!({"module_args": options});
    }
    result
}

/// Whether a result has a fact in it that its own type calls a secret.
fn carries_secret<S: Step>(facts: &Value) -> bool {
    OptionTable::of_output::<S::Facts>().options.iter().any(|fact| fact.secret && !facts[&fact.name].is_null())
}

fn converge<S: Step>(mut options: Map<String, Value>, subject: &[String], run: &mut Run) -> Result<Option<Value>, Failure> {
    let start = Instant::now();
    let enabled = options.remove("enabled") != Some(Value::Bool(false));
    let switch = |section: &&&str| options.get(&format!("flow_control_{section}")) == Some(&Value::Bool(false));
    run.switch_off(S::SECTIONS.iter().filter(switch).map(|section| (*section).to_owned()).collect());
    options.retain(|name, _| !name.starts_with("flow_control_"));
    let step: S = serde_json::from_value(options.into()).map_err(|error| OptionError::invalid(S::NAME, error.to_string()))?;
    // What is switched off may lack what it would need.
    if enabled {
        step.preflight()?;
    }
    run.preflight(start);
    if !enabled {
        return Ok(Some(serde_json::json!({"skipped": true, "skip_reason": "switched off by `enabled`"})));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RuntimeError)?;
    let facts = runtime.block_on(async {
        interrupt::heed().map_err(RuntimeError)?;
        let _alone = run.alone::<S>(subject).await?;
        step.converge(run).await
    })?;
    Ok(facts.map(|facts| serde_json::to_value(facts).unwrap_or_default()))
}

/// The asynchronous runtime could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the step's runtime cannot be set up")]
struct RuntimeError(#[source] io::Error);

impl Explain for RuntimeError {
    fn explain(&self) -> Explanation {
        Explanation::new("RUNTIME").hint("the process may have no file descriptors left; look at `ulimit -n`")
    }
}

/// A defect of the step itself.
#[derive(Debug, thiserror::Error)]
#[error("the step stopped at a defect of its own")]
struct Defect {
    place: Option<String>,
}

impl Explain for Defect {
    fn explain(&self) -> Explanation {
        Explanation::new("INTERNAL")
            .hint("please report it with the task's options, secrets left out")
            .detail(self.place.clone().unwrap_or_default())
    }
}

/// What was begun until then was done, as far as anybody knows. A panic's own words may hold a path or a secret, so only its place in
/// the source is told.
fn answer_panics_with(answer: impl Fn(Value) + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(|place| {
            let file = Path::new(place.file()).file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("line {} of {file}", place.line())
        });
        let (stage, changes) = ledger::so_far();
        let failure = Failure { stage: Some(stage), ..Failure::from(Defect { place }) };
        let mut result = Report::default().failure(&failure, false);
        result["changed"] = (!changes.is_empty()).into();
        result["changes"] = changes.into();
        answer(result);
    }));
}

fn failed(error: impl Explain) -> Value {
    let failure = Failure { stage: Some("preflight".into()), ..Failure::from(error) };
    Report::default().failure(&failure, false)
}

/// One JSON object on standard output, between two marks if the caller wants them: before the first, nothing has been done.
#[derive(Clone, Default)]
struct Answer {
    mark: Option<String>,
}

impl Answer {
    fn begin(&self) -> io::Result<()> {
        self.mark.as_deref().map_or(Ok(()), |mark| print(mark).map(drop))
    }

    fn end(&self, result: &Value) -> io::Result<ExitCode> {
        print(&result.to_string())?;
        self.begin()?;
        Ok(if result.get("failed").is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn print(text: &str) -> io::Result<ExitCode> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}
