//! What a step says while it works: `tracing` events, written as JSON lines for whoever is attached. No minute passes without a line.

use std::{
    fmt,
    fs::File,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt as _},
    registry,
};

/// How long nothing may be told.
const SILENCE: Duration = Duration::from_secs(60);

/// Sends every event of level INFO and above to `file` from now on.
pub(crate) fn record_to(file: File) {
    let recorder = Recorder::start(file, SILENCE);
    // Set once, by the one process that works on the job; a second call would find it set and change nothing.
    let _ = tracing::subscriber::set_global_default(registry().with(recorder));
}

struct Recorder(Arc<Mutex<State>>);

struct State {
    file: File,
    start: Instant,
    /// The stage that was announced last.
    stage: String,
    /// What was told last, and when something was.
    message: String,
    told: Instant,
}

impl Recorder {
    fn start(file: File, silence: Duration) -> Self {
        let now = Instant::now();
        let state = State { file, start: now, stage: String::new(), message: String::new(), told: now };
        let state = Arc::new(Mutex::new(state));
        let watched = Arc::downgrade(&state);
        // A thread, because a step may be busy with something that does not let go. It ends with the recorder.
        thread::spawn(move || {
            let mut pause = silence;
            loop {
                thread::sleep(pause);
                let Some(state) = watched.upgrade() else { return };
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let quiet = state.told.elapsed();
                if quiet >= silence {
                    state.repeat();
                }
                pause = silence.saturating_sub(state.told.elapsed());
            }
        });
        Self(state)
    }
}

impl State {
    fn tell(&mut self, message: &str) {
        let seconds = (self.start.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        let line = json!({"seconds": seconds, "stage": self.stage, "message": message});
        self.told = Instant::now();
        // Progress is a courtesy: a full disk must not fail the step because of it.
        let _ = self.file.write_all(format!("{line}\n").as_bytes());
    }

    fn repeat(&mut self) {
        let message = if self.message.is_empty() { "still at work".to_owned() } else { format!("still at: {}", self.message) };
        self.tell(&message);
    }
}

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // The Kubernetes client says what it does not understand with whatever was in it.
        if *event.metadata().level() > Level::INFO || event.metadata().target().starts_with("kube") {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(announced) = fields.stage {
            state.stage = announced;
            state.message.clear();
        }
        if fields.message.is_empty() {
            return;
        }
        state.tell(&fields.message);
        state.message = fields.message;
    }
}

#[derive(Default)]
struct Fields {
    stage: Option<String>,
    message: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "stage" {
            self.stage = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use serde_json::Value;

    use super::*;

    #[test]
    fn no_silence_is_longer_than_it_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let recorder = Recorder::start(File::create(&path).unwrap(), Duration::from_millis(50));
        let told = || {
            let mut text = String::new();
            File::open(&path).unwrap().read_to_string(&mut text).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines
                .map(|line| format!("{}: {}", line["stage"].as_str().unwrap(), line["message"].as_str().unwrap()))
                .collect::<Vec<_>>()
        };
        tracing::subscriber::with_default(registry().with(recorder), || {
            tracing::info!(stage = "pools");
            tracing::info!("make a pool");
            let begin = Instant::now();
            while told().len() < 3 && begin.elapsed() < Duration::from_secs(30) {
                thread::sleep(Duration::from_millis(10));
            }
        });
        assert_eq!(told()[..3], ["pools: make a pool", "pools: still at: make a pool", "pools: still at: make a pool"]);
    }
}
