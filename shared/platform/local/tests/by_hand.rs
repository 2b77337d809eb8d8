//! What a person does by hand: floors with an end, restarts, letting go.

#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]

mod support;

use domain::{Mode, Origin, Refusal, Replicas, RevisionId};
use platform::ScaleError;
use platform_local::{FloorSet, OperateError, ReplicaState, Shutdown};
use std::time::Duration;
use support::{DEADLINE, Local, Manifest, Place, View, eventually};
use tokio::time::timeout;

const HOUR: Duration = Duration::from_secs(3600);

fn app() -> RevisionId {
    RevisionId::new("default", "app")
}

/// min-scale as it is published, and whether a floor raised it.
fn min(view: &View) -> Option<(u32, bool)> {
    let min = view.revision.as_ref()?.scaling.min_scale;
    Some((min.get(), matches!(min.origin, Origin::Floor { .. })))
}

fn mode(view: &View) -> Option<Mode> {
    view.revision.as_ref().map(|revision| revision.mode.clone())
}

/// Ends it and starts it again on the same state directory.
async fn again(place: &Place, local: Local) -> Local {
    timeout(DEADLINE, local.platform.shutdown(Shutdown::Kill)).await.unwrap();
    drop(local);
    place.start_again().await
}

#[tokio::test]
async fn a_floor_outlives_a_restart_and_ends_by_itself() {
    let place = Place::new(&Manifest::server(""));
    let mut local = place.start().await;
    local.until("applied", |view| min(view) == Some((0, false))).await;
    let set = local.platform.set_floor(app(), Some((Replicas::new(2), HOUR))).await.unwrap();
    assert_eq!((set.min_scale.get(), set.floor.unwrap().min.get()), (2, 2));
    local.until("raised", |view| min(view) == Some((2, true))).await;

    let mut local = again(&place, local).await;
    local.until("still raised", |view| min(view) == Some((2, true))).await;
    let refused = local.platform.set_floor(app(), Some((Replicas::new(10), HOUR))).await.unwrap_err();
    assert!(matches!(refused, OperateError::AboveMax { .. }), "{refused}");
    let nobody = RevisionId::new("default", "nobody");
    let unknown = local.platform.set_floor(nobody.clone(), None).await;
    assert_eq!(unknown, Err(OperateError::NotFound(nobody)));
    let cleared = local.platform.set_floor(app(), None).await.unwrap();
    assert_eq!(cleared, FloorSet { floor: None, min_scale: Replicas::ZERO });
    local.until("cleared", |view| min(view) == Some((0, false))).await;

    local.platform.set_floor(app(), Some((Replicas::ONE, Duration::from_millis(700)))).await.unwrap();
    local.until("raised for a moment", |view| min(view) == Some((1, true))).await;
    local.until("ended", |view| min(view) == Some((0, false))).await;
    local.end().await;
}

#[tokio::test]
async fn a_restart_starts_first_and_drains_what_it_replaces() {
    let place = Place::new(&Manifest::server(""));
    let mut local = place.start().await;
    assert!(local.platform.restart(app()).await.unwrap().replaces.is_empty(), "nothing runs");
    local.scale(0, 1, &[]).await.unwrap();
    local.ready(1).await;
    let first = local.view.ready_ids();
    let shown = local.platform.replicas().await.unwrap().remove(0);
    assert_eq!((shown.name.as_str(), shown.state, shown.id.clone()), ("app-0", ReplicaState::Ready, first[0].clone()));
    assert_eq!(shown.address, Some(local.view.endpoints[0].address));
    assert!(support::is_alive(shown.pid.unwrap()), "{shown:?}");
    assert_eq!(shown.labels.get("app").map(String::as_str), Some("app"));

    assert_eq!(local.platform.restart(app()).await.unwrap().replaces, first);
    local.until("both there", |view| view.draining_ids() == first && view.ready_ids().len() == 1).await;
    let states: Vec<_> = local.platform.replicas().await.unwrap().iter().map(|one| (one.state, one.outdated)).collect();
    assert_eq!(states, [(ReplicaState::Draining, true), (ReplicaState::Ready, false)]);
    local.scale(1, 1, &first).await.unwrap();
    local.until("drained", |view| view.endpoints.len() == 1).await;
    support::gone(shown.pid.unwrap()).await;
    local.end().await;
}

#[tokio::test]
async fn what_is_let_go_has_its_last_count_and_is_left_alone() {
    let place = Place::new(&Manifest::server(""));
    let mut local = place.start().await;
    local.scale(0, 2, &[]).await.unwrap();
    local.ready(2).await;
    local.scale(2, 0, &[]).await.unwrap();
    local.until("asleep", |view| view.endpoints.is_empty()).await;

    let done = local.platform.release(app(), true).await.unwrap();
    assert_eq!((done.released, done.changed, done.replicas.get()), (true, true, 2));
    local.until("released", |view| mode(view) == Some(Mode::Refused(Refusal::Released))).await;
    local.ready(2).await;
    // An autoscaler that has not heard of it yet changes nothing.
    assert!(matches!(local.scale(2, 1, &[]).await, Err(ScaleError::Refused(_))));
    assert!(matches!(local.scale(2, 3, &[]).await, Err(ScaleError::Refused(_))));
    assert!(!local.platform.release(app(), true).await.unwrap().changed);

    let mut local = again(&place, local).await;
    local.until("still released", |view| mode(view) == Some(Mode::Refused(Refusal::Released))).await;
    local.ready(2).await;
    let back = local.platform.release(app(), false).await.unwrap();
    assert_eq!((back.released, back.changed, back.replicas.get()), (false, true, 2));
    local.until("taken back", |view| mode(view) == Some(Mode::Act)).await;
    local.scale(2, 1, &[]).await.unwrap();
    local.end().await;
}

#[tokio::test]
async fn what_never_ran_is_let_go_at_one() {
    let place = Place::new(&Manifest::server(""));
    let mut local = place.start().await;
    assert_eq!(local.platform.release(app(), true).await.unwrap().replicas, Replicas::ONE);
    local.ready(1).await;
    local.end().await;
}

#[tokio::test]
async fn shadow_and_paused_keep_their_count_and_paused_is_woken_once() {
    for (word, wakes) in [("shadow", false), ("paused", true)] {
        let annotations = vec![("kpa.dev/mode", word)];
        let place = Place::new(&Manifest { annotations: annotations.clone(), ..Manifest::server("") });
        let mut local = place.start().await;
        local.ready(1).await;
        assert!(matches!(local.scale(1, 2, &[]).await, Err(ScaleError::Refused(_))), "{word}");
        assert!(matches!(local.scale(1, 0, &[]).await, Err(ScaleError::Refused(_))), "{word}");
        local.end().await;

        let place = Place::new(&Manifest { annotations, replicas: 0, ..Manifest::server("") });
        let local = place.start().await;
        assert!(matches!(local.scale(0, 2, &[]).await, Err(ScaleError::Refused(_))), "{word}");
        assert_eq!(local.scale(0, 1, &[]).await.is_ok(), wakes, "{word}");
        local.end().await;
    }
}

#[tokio::test]
async fn lines_in_log_files_begin_with_their_moment() {
    let place = Place::new(&Manifest::server("echo hello;"));
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.ready(1).await;
    let line = eventually("the line", || {
        let mut logs = platform_local::ServiceLogs::open(&place.state(), "app", None).ok()?;
        let mut found = None;
        logs.read(Some(1), |_, line| {
            found = Some(line);
            Ok(())
        })
        .unwrap();
        found
    })
    .await;
    assert_eq!(line.text, b"hello");
    assert!(line.at.is_some_and(|at| at.unix_millis() > 1_700_000_000_000), "{line:?}");
    local.end().await;
}
