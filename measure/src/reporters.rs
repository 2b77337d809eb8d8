//! Two activators that report each second, as a process of their own: what they cost is not the autoscaler's.

use crate::told;
use activator::line::Line;
use anyhow::{Context, bail};
use bytes::Bytes;
use domain::report::{FRAME_BYTES_MAX, FRAME_MEDIA_TYPE, FRAME_ROWS_MAX};
use domain::{Ack, ReporterId};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::Full;
use runtime::Tasks;
use runtime::net::Tcp;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Their names.
pub(crate) const NAMES: [&str; 2] = ["activator-a", "activator-b"];
/// What they show.
pub(crate) const TOKEN: &str = "measure";
/// As long as an activator waits for an answer.
const POST_LIMIT: Duration = Duration::from_millis(800);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where the autoscaler listens.
    to: SocketAddr,
    /// How many revisions have requests in flight.
    active: u32,
}

/// Reports until an answer fails to come.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.active as usize > FRAME_ROWS_MAX {
        bail!("{} rows do not fit into a frame; at most {FRAME_ROWS_MAX}", arguments.active);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let began = Instant::now();
    let [a, b] = NAMES.map(ReporterId::new);
    // Not at the same time, as those of two processes are not.
    let second = began + Duration::from_millis(500);
    runtime.block_on(async { tokio::try_join!(report(arguments, a, began), report(arguments, b, second)).map(|_| ()) })
}

async fn report(arguments: &Arguments, id: ReporterId, began: Instant) -> anyhow::Result<()> {
    let (tasks, mut line) = (Tasks::new(), Line::default());
    for tick in 1.. {
        let frame = told::frame(&id, tick, arguments.active);
        let body = serde_json::to_vec(&frame)?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, Uri::from_static("/v1/frames"));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FRAME_MEDIA_TYPE));
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {TOKEN}"))?);
        sleep_until(began + Duration::from_secs(tick)).await;
        let bounds = (POST_LIMIT, FRAME_BYTES_MAX);
        let answer = line.exchange(&Tcp, arguments.to, request, bounds, &tasks).await;
        let answer = answer.with_context(|| format!("frame {tick} of {id}"))?;
        let ack: Ack = serde_json::from_slice(&answer)?;
        if ack.seq != tick || ack.resync {
            bail!("frame {tick} of {id} was answered with {ack:?}");
        }
    }
    Ok(())
}
