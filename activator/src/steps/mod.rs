//! The steps of a request, one file each, in the order of `stack.rs`.

pub mod access_log;
pub mod await_capacity;
pub mod count;
pub mod deadline;
pub mod forward;
pub mod lend;
pub mod probe;
pub mod resolve;
pub mod respond;
mod spare;
pub mod trip;

use crate::body::ResponseBody;
use crate::error::RequestError;
use crate::worker::Worker;
use runtime::net::Connect;
use std::future::Future;
use std::sync::Arc;

/// An answer to a client.
pub type Response<C> = http::Response<ResponseBody<<C as Connect>::Stream>>;

/// One step: takes what it knows, does its part, and hands on what it knows more.
pub trait Step<C: Connect, In>: Send + Sync {
    /// Runs the step and every step below it.
    fn run(&self, worker: &Arc<Worker<C>>, input: In)
    -> impl Future<Output = Result<Response<C>, RequestError>> + Send;
}
