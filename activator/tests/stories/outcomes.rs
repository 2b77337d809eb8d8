//! Every request is counted once, by how it ended.

use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{GET, eventually, ok};
use activator::error::Outcome;
use domain::Limits;
use std::time::Duration;

#[tokio::test]
async fn answers_are_counted_by_their_class() {
    let backend = Backend::new(|request| match request.target() {
        "/500" => b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/404" => b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n".to_vec(),
        _ => ok(""),
    })
    .await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    for target in ["/", "/404", "/500"] {
        client.ask(format!("GET {target} HTTP/1.1\r\nhost: svc.default\r\n\r\n")).await;
    }
    for (outcome, count) in [(Outcome::Success, 1), (Outcome::ClientError, 1), (Outcome::ServerError, 1)] {
        assert_eq!(rig.ended(outcome), count, "{outcome:?}");
    }
    let mut text = String::new();
    activator::metrics::render(rig.activator.revisions(), rig.activator.workers()[0].base.clock, &mut text);
    assert!(text.contains(r#"activator_requests_total{namespace="default",revision="svc",outcome="5xx"} 1"#), "{text}");
    assert!(text.contains(r#"activator_response_head_seconds_count{namespace="default",revision="svc"} 3"#), "{text}");
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_as_that() {
    let rig = Rig::new(Limits::default(), &[]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    eventually("it waits", || rig.waiting() == 1).await;
    drop(client);
    rig.at_rest().await;
    assert_eq!(rig.ended(Outcome::ClientGone), 1);
}

#[tokio::test]
async fn a_request_whose_time_is_over_is_counted_as_that() {
    let rig = Rig::new(limits(|l| l.timeout = set(Some(Duration::from_millis(50)))), &[]).await;
    assert_eq!(rig.client().await.ask(GET).await.status(), 504);
    rig.at_rest().await;
    assert_eq!((rig.ended(Outcome::Timeout), rig.ended(Outcome::ClientGone)), (1, 0));
}
