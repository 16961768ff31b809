//! What can go wrong between a step and LXD, and when.

use std::sync::mpsc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Bytes;
use tokio::sync::oneshot;

use super::{Wire, journal, lock};
use crate::rest::Rest;

/// Long enough for a step to reach the held request on a busy machine.
const HOLD_DEADLINE: Duration = Duration::from_secs(60);

/// A request that a fault is waiting for; the method that ends the sentence arms the fault.
#[must_use]
pub struct Trigger<'a> {
    wire: &'a Wire,
    matches: Matches,
    nth: usize,
}

enum Matches {
    AnyWrite,
    Request { method: String, path: String },
}

impl Matches {
    fn matches(&self, request: &Request<Bytes>) -> bool {
        match self {
            Self::AnyWrite => journal::is_write(request.method().as_str()),
            Self::Request { method, path } => {
                (method == "*" || method == request.method().as_str()) && path_matches(path, request.uri().path())
            }
        }
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    let mut pattern = pattern.split('/');
    let mut path = path.split('/');
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(segment)) if wanted == segment => {}
            _ => return false,
        }
    }
}

pub(super) struct Armed {
    matches: Matches,
    /// Requests to let pass before the fault happens.
    skip: usize,
    /// None once it has happened.
    effect: Option<Effect>,
}

pub(super) enum Effect {
    Refuse { status: u16, message: String },
    RefuseAfter { status: u16, message: String },
    FailOperation { error: String },
    Say { status: u16, content_type: &'static str, body: String },
    Delay(Duration),
    CutBefore,
    CutAfter,
    CutWithin,
    Meanwhile(Box<dyn FnOnce(&Rest) + Send>),
    HoldBefore(Gate),
    HoldAfter(Gate),
}

/// The effect that `request` meets, if any. Of several faults for one request the first armed wins.
pub(super) fn due(armed: &mut [Armed], request: &Request<Bytes>) -> Option<Effect> {
    for fault in armed.iter_mut().filter(|fault| fault.effect.is_some() && fault.matches.matches(request)) {
        if fault.skip == 0 {
            return fault.effect.take();
        }
        fault.skip -= 1;
    }
    None
}

impl<'a> Trigger<'a> {
    pub(super) fn new(wire: &'a Wire, method: &str, path: &str) -> Self {
        let matches = Matches::Request { method: method.to_owned(), path: path.to_owned() };
        Self { wire, matches, nth: 1 }
    }

    pub(super) fn on_write(wire: &'a Wire) -> Self {
        Self { wire, matches: Matches::AnyWrite, nth: 1 }
    }

    /// Waits for the `nth` such request from now on, counted from one.
    pub fn nth(mut self, nth: usize) -> Self {
        self.nth = nth;
        self
    }

    /// LXD refuses the request.
    pub fn refuse(self, status: u16, message: &str) {
        self.arm(Effect::Refuse { status, message: message.to_owned() });
    }

    /// LXD carries the request out, and refuses it all the same.
    pub fn refuse_after(self, status: u16, message: &str) {
        self.arm(Effect::RefuseAfter { status, message: message.to_owned() });
    }

    /// LXD accepts the request with 202 and its operation fails.
    pub fn fail_operation(self, error: &str) {
        self.arm(Effect::FailOperation { error: error.to_owned() });
    }

    /// Something that is not LXD's envelope comes back.
    pub fn say(self, status: u16, content_type: &'static str, body: &str) {
        self.arm(Effect::Say { status, content_type, body: body.to_owned() });
    }

    /// The request reaches LXD late.
    pub fn delay(self, duration: Duration) {
        self.arm(Effect::Delay(duration));
    }

    /// The connection breaks before LXD sees the request.
    pub fn cut_before(self) {
        self.arm(Effect::CutBefore);
    }

    /// LXD carries the request out, and the connection breaks before the answer.
    pub fn cut_after(self) {
        self.arm(Effect::CutAfter);
    }

    /// LXD carries the request out, and the connection breaks in the middle of the answer.
    pub fn cut_within(self) {
        self.arm(Effect::CutWithin);
    }

    /// Somebody else does something just before LXD sees the request.
    pub fn meanwhile(self, act: impl FnOnce(&Rest) + Send + 'static) {
        self.arm(Effect::Meanwhile(Box::new(act)));
    }

    /// Keeps the request from LXD until the test lets it go.
    pub fn hold_before(self) -> Held {
        let (gate, held) = gate();
        self.arm(Effect::HoldBefore(gate));
        held
    }

    /// Lets LXD carry the request out and keeps the answer until the test lets it go.
    pub fn hold_after(self) -> Held {
        let (gate, held) = gate();
        self.arm(Effect::HoldAfter(gate));
        held
    }

    fn arm(self, effect: Effect) {
        let fault = Armed { matches: self.matches, skip: self.nth - 1, effect: Some(effect) };
        lock(&self.wire.armed).push(fault);
    }
}

/// The relay's side of a held request.
pub(super) struct Gate {
    reached: mpsc::Sender<()>,
    opened: oneshot::Receiver<()>,
}

impl Gate {
    /// Waits until the test opens the gate; false when the test gave the request up.
    pub(super) async fn pass(self) -> bool {
        let _ = self.reached.send(());
        self.opened.await.is_ok()
    }
}

/// The test's side of a held request. Dropped without [`Held::release`], the connection is cut.
pub struct Held {
    reached: mpsc::Receiver<()>,
    open: oneshot::Sender<()>,
}

impl Held {
    /// Returns once the request is held.
    pub fn wait(&self) {
        self.reached.recv_timeout(HOLD_DEADLINE).expect("the request to hold never came");
    }

    /// Lets the request, or its answer, go on.
    pub fn release(self) {
        let _ = self.open.send(());
    }
}

fn gate() -> (Gate, Held) {
    let (reached, arrival) = mpsc::channel();
    let (open, opened) = oneshot::channel();
    (Gate { reached, opened }, Held { reached: arrival, open })
}
