//! The server's answers, as clients see them.

mod applying;
mod client;
mod custom;
mod objects;
mod patches;
mod samples;
