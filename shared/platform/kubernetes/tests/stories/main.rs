//! Both platforms on an API server in memory, with a paused clock: what is told, what is written, what is given back.

mod cluster;
mod election;
mod proxy;
mod world;
