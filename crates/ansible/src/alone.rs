//! One run of a step at a time.
//!
//! Two runs of the same step on the same host, for the same lab, would each plan from what the other is about to change. The second one
//! says so and waits for the first. A run that changes nothing is never waited for.
//!
//! Limits: only root's runs wait for each other, and only where they name the lab in the same words.

use std::time::Duration;

use converge::{Explain, Explanation, stop};
use host::HostLock;

/// A first start of everything a step may wait for takes no longer.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// File systems bound the length of a name.
const LONGEST_NAME: usize = 200;

/// The other run does not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("another run of {step} is at work")]
pub(crate) struct Busy {
    step: &'static str,
    source: host::Error,
}

impl Explain for Busy {
    fn explain(&self) -> Explanation {
        let explanation = self.source.explain();
        // Who was asked to stop while it waited was not kept from anything.
        if explanation.code == stop::Stopped.explain().code {
            return explanation;
        }
        explanation.with_code("STEP_BUSY").with_hint(
            "let it end, then run again. A process that nobody needs any more stops between two changes when it gets SIGTERM",
        )
    }
}

/// Waits until no other run of this step is at work on the same.
pub(crate) async fn alone(step: &'static str, subject: &[String]) -> Result<HostLock, Busy> {
    HostLock::acquire_within(&name(step, subject), PATIENCE).await.map_err(|source| Busy { step, source })
}

fn name(step: &str, subject: &[String]) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '-' };
    let subject = subject.iter().map(|part| part.trim_matches('/')).filter(|part| !part.is_empty());
    let name = [step].into_iter().chain(subject).collect::<Vec<_>>().join("+");
    name.chars().map(|letter| if letter == '+' { '+' } else { plain(letter) }).take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_one_folder() {
        for (subject, expected) in [
            (vec![], "step"),
            (vec!["capi-lab"], "step+capi-lab"),
            (vec!["capi-lab", "/var/lib/lxd/unix.socket"], "step+capi-lab+var-lib-lxd-unix.socket"),
            (vec!["/", "../\u{e9}"], "step+..--"),
        ] {
            let subject: Vec<String> = subject.into_iter().map(str::to_owned).collect();
            assert_eq!(name("step", &subject), expected);
        }
        assert_eq!(name("step", &["x".repeat(5000)]).len(), LONGEST_NAME);
    }
}
