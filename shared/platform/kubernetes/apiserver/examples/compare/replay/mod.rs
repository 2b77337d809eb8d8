//! The series of calls, what was answered to it, and how two records of it differ.
//!
//! Invariant: whatever a record made is deleted before it is handed out, also when it fails or is interrupted.

pub(crate) mod allowed;
mod calls;
mod difference;
mod normal;
mod script;

pub(crate) use calls::{Recorder, Stopped};
pub(crate) use difference::compared;

use calls::Step;
use futures_util::FutureExt;
use kube::Config;
use std::panic::AssertUnwindSafe;

/// Carries out the series on one server, in a namespace that it makes and deletes.
///
/// # Errors
/// When the namespace exists, the server cannot be reached, or something cannot be deleted.
pub(crate) async fn record(config: &Config, namespace: &str) -> Result<Vec<Step>, Stopped> {
    record_of(config, namespace, script::run).await
}

/// The same for another series.
pub(crate) async fn record_of(
    config: &Config,
    namespace: &str,
    series: impl AsyncFnOnce(&mut Recorder) -> Result<(), Stopped>,
) -> Result<Vec<Step>, Stopped> {
    let mut recorder = Recorder::new(config, namespace)?;
    recorder.begin().await?;
    let outcome = tokio::select! {
        outcome = AssertUnwindSafe(series(&mut recorder)).catch_unwind() => outcome,
        interrupted = tokio::signal::ctrl_c() => Ok(Err(Stopped::Interrupted(interrupted.err()))),
    };
    let cleaned = recorder.end().await;
    match outcome {
        Ok(outcome) => outcome.and(cleaned)?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    Ok(recorder.into_steps())
}
