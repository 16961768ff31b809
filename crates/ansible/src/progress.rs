//! What a step says while it works: `tracing` events, written as JSON lines for whoever is attached.

use std::{
    fmt,
    fs::File,
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::Instant,
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

/// Sends every event of level INFO and above to `file` from now on.
pub(crate) fn record_to(file: File) {
    let recorder = Recorder { start: Instant::now(), state: Mutex::new((file, String::new())) };
    // Set once, by the one process that works on the job; a second call would find it set and change nothing.
    let _ = tracing::subscriber::set_global_default(registry().with(recorder));
}

struct Recorder {
    start: Instant,
    /// The file, and the stage that was announced last.
    state: Mutex<(File, String)>,
}

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // The Kubernetes client says what it does not understand with whatever was in it.
        if *event.metadata().level() > Level::INFO || event.metadata().target().starts_with("kube") {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, stage) = &mut *current;
        if let Some(announced) = fields.stage {
            *stage = announced;
        }
        if fields.message.is_empty() {
            return;
        }
        let seconds = (self.start.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        let line = json!({"seconds": seconds, "stage": stage, "message": fields.message});
        // Progress is a courtesy: a full disk must not fail the step because of it.
        let _ = file.write_all(format!("{line}\n").as_bytes());
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
