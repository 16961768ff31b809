//! What a step is as a program: one JSON object on standard output and nothing beside it, whatever happens.

#![allow(clippy::unwrap_used, clippy::panic)]

mod bench;
mod job;
mod protocol;
