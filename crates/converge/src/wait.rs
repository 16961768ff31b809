//! Waits. Each has a name that a person understands, and a deadline that bounds every look. While it lasts it tells its progress;
//! at the deadline it says what it saw last.

use std::{
    fmt,
    future::Future,
    time::{Duration, Instant},
};

use crate::{Explain, Explanation, stop};

/// The pauses between two looks, where nothing can be watched, grow from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// What a look is given at least, so that one which began just before the deadline can end.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);

/// A named condition with a deadline.
#[derive(Clone, Debug)]
pub struct Wait {
    condition: String,
    deadline: Duration,
}

/// The condition did not come to hold in time.
#[derive(Debug, thiserror::Error)]
#[error("{condition}: {}; last seen: {seen}", if *stopped { "stopped as asked".into() } else { format!("not within {} s", deadline.as_secs()) })]
pub struct WaitError {
    condition: String,
    deadline: Duration,
    seen: String,
    stopped: bool,
}

impl Explain for WaitError {
    fn explain(&self) -> Explanation {
        if self.stopped {
            return stop::Stopped.explain();
        }
        Explanation::new("WAIT_TIMEOUT").hint("raise the step's timeout option if what was last seen is still moving")
    }
}

impl Wait {
    /// A condition as a person names it: `capi-bootstrap-0: a global IPv4 address on eth0`.
    #[must_use]
    pub fn for_condition(condition: impl Into<String>, deadline: Duration) -> Self {
        Self { condition: condition.into(), deadline }
    }

    /// Looks until the answer is there. `look` says what it saw when the condition does not hold yet; its errors end the wait. A look
    /// that gives no answer is given up at the deadline.
    pub async fn until<T, S, E, F>(&self, mut look: impl FnMut() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<Result<T, S>, E>>,
        S: fmt::Display,
        E: From<WaitError>,
    {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut reported = String::new();
        loop {
            let left = self.deadline.saturating_sub(start.elapsed());
            let seen = match tokio::time::timeout(left.max(SHORTEST_LOOK), look()).await {
                Ok(looked) => match looked? {
                    Ok(answer) => return Ok(answer),
                    Err(seen) => seen.to_string(),
                },
                Err(_) if reported.is_empty() => "nothing".into(),
                Err(_) => reported.clone(),
            };
            let left = self.deadline.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(self.over(seen).into());
            }
            self.report(seen, &mut reported);
            tokio::select! {
                () = stop::asked() => return Err(self.stopped(reported).into()),
                () = tokio::time::sleep(pause.min(left)) => {}
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Looks as [`Wait::until`] does, where something can be watched: `next` ends when there is something new to be seen, and is
    /// given up at the deadline.
    pub async fn watch<T, S, E>(&self, mut next: impl AsyncFnMut() -> Result<Result<T, S>, E>) -> Result<T, E>
    where
        S: fmt::Display,
        E: From<WaitError>,
    {
        let start = Instant::now();
        let mut reported = String::from("nothing");
        loop {
            let left = self.deadline.saturating_sub(start.elapsed());
            let looked = tokio::select! {
                () = stop::asked() => return Err(self.stopped(reported).into()),
                looked = tokio::time::timeout(left, next()) => looked,
            };
            let Ok(looked) = looked else { return Err(self.over(reported).into()) };
            match looked? {
                Ok(answer) => return Ok(answer),
                Err(seen) => self.report(seen.to_string(), &mut reported),
            }
        }
    }

    fn report(&self, seen: String, reported: &mut String) {
        if seen != *reported {
            tracing::info!("waiting for {} (seen: {seen})", self.condition);
            *reported = seen;
        }
    }

    fn over(&self, seen: String) -> WaitError {
        WaitError { condition: self.condition.clone(), deadline: self.deadline, seen, stopped: false }
    }

    fn stopped(&self, seen: String) -> WaitError {
        WaitError { stopped: true, ..self.over(seen) }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn wait(deadline: u64) -> Wait {
        Wait::for_condition("node: Ready", Duration::from_millis(deadline))
    }

    #[tokio::test]
    async fn ends_when_the_condition_holds() {
        let looks = Cell::new(0);
        let answer: Result<u32, WaitError> = wait(10_000)
            .until(async || {
                looks.set(looks.get() + 1);
                Ok(if looks.get() == 3 { Ok(7) } else { Err("NotReady") })
            })
            .await;
        assert_eq!(answer.unwrap(), 7);
    }

    #[tokio::test]
    async fn says_what_it_last_saw() {
        let answer: Result<(), WaitError> = wait(60).until(async || Ok(Err("NotReady: no CNI"))).await;
        assert_eq!(answer.unwrap_err().to_string(), "node: Ready: not within 0 s; last seen: NotReady: no CNI");
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_given_up() {
        let looks = Cell::new(0);
        let hanging: Result<(), WaitError> = wait(60)
            .until(async || {
                looks.set(looks.get() + 1);
                if looks.get() > 1 {
                    std::future::pending::<()>().await;
                }
                Ok(Err("NotReady"))
            })
            .await;
        assert!(hanging.unwrap_err().to_string().ends_with("last seen: NotReady"));
    }

    #[tokio::test]
    async fn what_is_watched_ends_when_it_holds_or_at_the_deadline() {
        let news = Cell::new(0);
        let answer: Result<u32, WaitError> = wait(10_000)
            .watch(async || {
                news.set(news.get() + 1);
                Ok(if news.get() == 3 { Ok(7) } else { Err("NotReady") })
            })
            .await;
        assert_eq!(answer.unwrap(), 7);
        let silent: Result<(), WaitError> = wait(60)
            .watch(async || {
                news.set(news.get() + 1);
                if news.get() > 4 {
                    std::future::pending::<()>().await;
                }
                Ok(Err("NotReady: no CNI"))
            })
            .await;
        assert_eq!(silent.unwrap_err().to_string(), "node: Ready: not within 0 s; last seen: NotReady: no CNI");
    }

    #[tokio::test]
    async fn an_error_of_the_look_ends_it() {
        let error = WaitError { condition: "other".into(), deadline: Duration::ZERO, seen: "gone".into(), stopped: false };
        let error = Cell::new(Some(error));
        let answer: Result<(), WaitError> = wait(60_000).until(async || error.take().map_or(Ok(Err("nothing")), Err)).await;
        assert!(answer.unwrap_err().to_string().contains("gone"));
    }
}
