//! The server's answers, as clients see them.

#![expect(clippy::unwrap_used, reason = "what cannot go on here fails its test")]

mod access;
mod applying;
mod client;
mod custom;
mod faults;
mod hostile;
mod objects;
mod patches;
mod samples;
mod validation;
mod watches;
