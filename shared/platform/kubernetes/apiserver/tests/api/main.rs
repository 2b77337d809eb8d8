//! The server's answers, as clients see them.

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
