//! The whole way of a request, one step a line, outermost first.
//!
//! Each step changes the type of the request, so a wrong order does not compile. A connection gets one future with
//! every step inline: nothing is cloned, boxed or asked for readiness per request. Back-pressure is the bounded queue of
//! `AwaitCapacity`.

use crate::steps::access_log::AccessLog;
use crate::steps::await_capacity::AwaitCapacity;
use crate::steps::count::Count;
use crate::steps::deadline::Deadline;
use crate::steps::forward::Forward;
use crate::steps::probe::Probe;
use crate::steps::resolve::Resolve;
use crate::steps::respond::Respond;
use tower::ServiceBuilder;
use tower::layer::layer_fn;

/// The composed steps.
pub type Stack = Respond<Probe<AccessLog<Resolve<Deadline<Count<AwaitCapacity<Forward>>>>>>>;

/// The stack, made once a worker.
#[must_use]
pub fn stack() -> Stack {
    ServiceBuilder::new()
        // Outermost, so that whatever fails below is answered.
        .layer(layer_fn(Respond))
        // Before anything that could count, wake or refuse.
        .layer(layer_fn(Probe))
        .layer(layer_fn(AccessLog))
        .layer(layer_fn(Resolve))
        // Needs the revision's clocks; covers waiting and sending.
        .layer(layer_fn(Deadline))
        // Before waiting: what waits is load.
        .layer(layer_fn(Count))
        .layer(layer_fn(AwaitCapacity))
        .service(Forward)
}
