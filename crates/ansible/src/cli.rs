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

use crate::{OptionError, OptionTable, Reference, Report, Run, Step, VERSION, job, path, progress, reference::Format};

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
                .help("A JSON object of options, as Ansible writes it"),
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
        .arg(Arg::new("job").long("job").value_parser(value_parser!(PathBuf)).hide(true))
}

fn respond(entries: &[Entry], matches: &ArgMatches) -> io::Result<ExitCode> {
    if let Some(format) = matches.get_one::<Format>("docs") {
        return match choose(entries, matches, None) {
            Ok(entry) => print((entry.reference)().render(*format).trim_end()),
            Err(error) => finish(&failed(error)),
        };
    }
    if let Some(folder) = matches.get_one::<PathBuf>("attach") {
        return print(&job::attach(folder, matches.get_one::<u64>("from").copied().unwrap_or_default()).to_string());
    }
    let Some(file) = matches.get_one::<PathBuf>("arguments") else {
        command(entries).print_help()?;
        return Ok(ExitCode::FAILURE);
    };
    answer_panics_with(|result| {
        let _ = finish(&result);
        std::process::exit(1);
    });
    let prepared = read(file).and_then(|arguments| Ok((choose(entries, matches, Some(&arguments))?, arguments)));
    let (entry, arguments) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return finish(&failed(error)),
    };
    let detached = arguments.job_base().and_then(|base| job::start(&base, entry.name, arguments.text.as_bytes()).ok());
    // Where no job can be had, say on a folder mounted noexec, a step simply runs.
    finish(&detached.unwrap_or_else(|| (entry.run)(&arguments)))
}

/// The detached half of a job.
fn work(entries: &[Entry], matches: &ArgMatches, folder: &Path) -> io::Result<ExitCode> {
    let events = job::enter(folder)?;
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let lost = folder.to_owned();
    answer_panics_with(move |result| {
        let _ = job::leave(&lost, &result.to_string());
        std::process::exit(1);
    });
    progress::record_to(events);
    let result = match Arguments::parse(text).and_then(|arguments| Ok((choose(entries, matches, Some(&arguments))?, arguments))) {
        Ok((entry, arguments)) => (entry.run)(&arguments),
        Err(error) => failed(error),
    };
    job::leave(folder, &result.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn choose(entries: &[Entry], matches: &ArgMatches, arguments: Option<&Arguments>) -> Result<Entry, OptionError> {
    if let [entry] = entries {
        return Ok(*entry);
    }
    let called = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let called = called.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let asked = matches.get_one::<String>("step").cloned();
    let name = asked.or_else(|| arguments?.private("_ansible_module_name")?.as_str().map(str::to_owned)).unwrap_or(called);
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
    let text =
        fs::read_to_string(file).map_err(|error| OptionError::Unreadable { reason: format!("{error} ({})", file.display()) })?;
    Arguments::parse(text)
}

impl Arguments {
    fn parse(text: String) -> Result<Self, OptionError> {
        // The parser's own words may quote the input, and the input may hold secrets.
        let unreadable = |error: serde_json::Error| OptionError::Unreadable {
            reason: format!("line {}, column {}", error.line(), error.column()),
        };
        let values = serde_json::from_str(&text).map_err(unreadable)?;
        Ok(Self { text, values })
    }

    fn private(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    fn flag(&self, key: &str) -> bool {
        self.private(key).and_then(Value::as_bool).unwrap_or_default()
    }

    fn options(&self) -> Map<String, Value> {
        let own = |key: &str| !key.starts_with("_ansible_") && !key.starts_with("_k8slab_");
        self.values.iter().filter(|(key, _)| own(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Where a job may put its folder, if the caller wants one and can attach to it.
    fn job_base(&self) -> Option<PathBuf> {
        if !self.flag("_k8slab_job") || self.flag("_ansible_check_mode") {
            return None;
        }
        let base = self.private("_ansible_remote_tmp")?.as_str()?;
        AbsolutePath::new(&path::expand(base)).map(|path| path.to_path_buf())
    }
}

fn run<S: Step>(arguments: &Arguments) -> Value {
    let mut run = Run::new(arguments.flag("_ansible_check_mode"));
    let with_diff = arguments.flag("_ansible_diff");
    match converge::<S>(arguments, &mut run) {
        Ok(facts) => run.report.success(facts, with_diff),
        Err(failure) => {
            let stage = Some(run.stage.clone());
            run.report.failure(&Failure { stage, ..failure }, with_diff)
        }
    }
}

fn converge<S: Step>(arguments: &Arguments, run: &mut Run) -> Result<Option<Value>, Failure> {
    let start = Instant::now();
    let mut options = OptionTable::of::<S>().with_switches(S::SECTIONS).resolve(&arguments.options())?;
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
    let facts = runtime.block_on(step.converge(run))?;
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

/// A panic's own words may hold a path or a secret, so only its place in the source is told.
fn answer_panics_with(answer: impl Fn(Value) + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(|place| {
            let file = Path::new(place.file()).file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("line {} of {file}", place.line())
        });
        answer(failed(Defect { place }));
    }));
}

fn failed(error: impl Explain) -> Value {
    let failure = Failure { stage: Some("preflight".into()), ..Failure::from(error) };
    Report::default().failure(&failure, false)
}

fn finish(result: &Value) -> io::Result<ExitCode> {
    print(&result.to_string())?;
    Ok(if result.get("failed").is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(text: &str) -> io::Result<ExitCode> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}
