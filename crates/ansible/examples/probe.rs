//! A step to try the protocol on: it keeps a text in a file, and misbehaves when it is told to.

use std::{fmt, fs, io, path::Path, process::ExitCode, time::Duration};

use ansible::{Run, Step};
use converge::{AbsolutePath, Change, Explain, Explanation, Failure, Secret, Section, Wait, WaitError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use smart_default::SmartDefault;

fn main() -> ExitCode {
    ansible::main::<Probe>()
}

/// Keep a text in a file.
///
/// The file's folder has to be there.
#[derive(Deserialize, JsonSchema, SmartDefault)]
#[serde(default)]
struct Probe {
    /// The file.
    #[schemars(extend("tells_apart" = true))]
    path: Option<AbsolutePath>,
    /// What it holds.
    #[default("hello")]
    text: String,
    /// What the text is signed with.
    token: Secret,
    /// What comes after the file was written.
    ending: Ending,
    /// A file that has to be there before the step goes on.
    gate: Option<AbsolutePath>,
}

/// What comes after the file was written.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Ending {
    /// The step does what it should.
    #[default]
    Good,
    /// The step fails.
    Failure,
    /// The step panics, with the token in its words.
    Panic,
}

#[derive(Serialize, JsonSchema)]
struct Facts {
    /// The file's length in bytes.
    length: usize,
}

impl Step for Probe {
    const NAME: &'static str = "probe";
    const SECTIONS: &'static [&'static str] = &["file", "ending"];
    const EXAMPLES: &'static str = "- name: Say hello\n  k8slab.capi.probe:\n    path: /tmp/hello\n";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        if self.path.is_some() { Ok(()) } else { Err(ProbeError::NoFile.into()) }
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        tracing::info!("signing with {:?}", self.token);
        tracing::debug!("what only a developer wants to know");
        self.wait_for_gate().await?;
        run.section(&Content(self)).await?;
        self.end()?;
        run.verify(async { Ok(Facts { length: Content(self).observe().await?.map_or(0, |text| text.len()) }) }).await
    }
}

impl Probe {
    async fn wait_for_gate(&self) -> Result<(), Failure> {
        let Some(gate) = &self.gate else {
            return Ok(());
        };
        let look = async || match gate.try_exists() {
            Ok(true) => Ok(Ok(())),
            Ok(false) if gate.parent().is_some_and(Path::exists) => Ok(Err("closed")),
            _ => Err(ProbeError::NoFile),
        };
        Ok(Wait::for_condition("the gate is open", Duration::from_secs(60)).until(look).await?)
    }

    #[expect(clippy::panic, reason = "how a step's own defect ends is what is tried")]
    fn end(&self) -> Result<(), ProbeError> {
        match self.ending {
            Ending::Good => Ok(()),
            Ending::Failure => Err(ProbeError::Told(self.token.clone())),
            Ending::Panic => panic!("{} is in /etc/probe", self.token.expose()),
        }
    }
}

struct Content<'a>(&'a Probe);

impl Section for Content<'_> {
    const NAME: &'static str = "file";
    type Live = Option<String>;
    type Change = Written;

    async fn observe(&self) -> Result<Option<String>, Failure> {
        match fs::read(self.0.path.as_deref().unwrap_or("/".as_ref())) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ProbeError::File(error).into()),
        }
    }

    fn plan(&self, live: &Option<String>) -> Result<Vec<Written>, Failure> {
        let after = format!("{}, signed with {} letters", self.0.text, self.0.token.expose().len());
        let differs = live.as_ref() != Some(&after);
        Ok(differs.then(|| Written { before: live.clone(), after }).into_iter().collect())
    }

    async fn apply(&self, change: &Written) -> Result<(), Failure> {
        Ok(fs::write(self.0.path.as_deref().unwrap_or("/".as_ref()), &change.after).map_err(ProbeError::File)?)
    }
}

struct Written {
    before: Option<String>,
    after: String,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write the file")
    }
}

impl Change for Written {
    fn object(&self) -> String {
        "file".into()
    }

    fn before(&self) -> Value {
        self.before.as_ref().map_or(Value::Null, |text| json!({"text": text}))
    }

    fn after(&self) -> Value {
        json!({"text": self.after})
    }
}

#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("there is no such file")]
    NoFile,
    #[error("the file cannot be used")]
    File(#[source] io::Error),
    #[error("told to fail, signed with {0:?}")]
    Told(Secret),
    #[error(transparent)]
    Wait(#[from] WaitError),
}

impl Explain for ProbeError {
    fn explain(&self) -> Explanation {
        let explanation = match self {
            Self::NoFile => Explanation::new("PROBE_NO_FILE"),
            Self::File(_) => Explanation::new("PROBE_FILE"),
            Self::Told(_) => Explanation::new("PROBE_TOLD"),
            Self::Wait(error) => error.explain(),
        };
        explanation.with_hint("tell it something else")
    }
}
