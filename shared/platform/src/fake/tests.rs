use super::*;
use crate::contract::{Subject, View, suite};
use crate::fixed::default_revision;
use domain::EndpointState;

const START: Duration = Duration::from_secs(5);

fn id() -> RevisionId {
    RevisionId::new("default", "model")
}

fn target() -> ScaleTargetRef {
    ScaleTargetRef::deployment("default", "model")
}

fn fake() -> Fake {
    let fake = Fake::new();
    fake.apply(default_revision(id()), START);
    fake
}

struct InMemory(Fake);

impl Subject for InMemory {
    fn platform(&self) -> Arc<dyn Platform> {
        Arc::new(self.0.clone())
    }
    fn revision(&self) -> RevisionId {
        id()
    }
    fn remove(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.0.remove(&id()) })
    }
}

#[tokio::test(start_paused = true)]
async fn the_fake_passes_the_contract() {
    suite(async || InMemory(fake())).await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_ready_after_its_start_delay() {
    let fake = fake();
    let mut view = View::of(&fake);
    let asked = Instant::now();
    fake.scale(&target(), Replicas::ZERO, Replicas::ONE, &[]).await.unwrap();
    view.until(|view| view.ready(&id()) == 1).await;
    assert_eq!(asked.elapsed(), START);
}

#[tokio::test(start_paused = true)]
async fn a_replica_can_be_told_ready_before_its_time() {
    let fake = fake();
    let mut view = View::of(&fake);
    let asked = Instant::now();
    fake.scale(&target(), Replicas::ZERO, Replicas::ONE, &[]).await.unwrap();
    assert!(!fake.set_ready(&id(), &EndpointId::new("nobody")));
    assert!(fake.set_ready(&id(), &EndpointId::new("model-1")));
    view.until(|view| view.ready(&id()) == 1 && view.endpoints(&id()).len() == 1).await;
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_replica_is_replaced_under_another_name() {
    let fake = fake();
    fake.set_replicas(&id(), Replicas::ONE);
    let mut view = View::of(&fake);
    view.until(|view| view.endpoints(&id()).len() == 1).await;
    let before = view.endpoints(&id())[0].id.clone();
    assert!(fake.crash(&id(), &before));
    assert!(!fake.crash(&id(), &before));
    view.until(|view| view.endpoints(&id()).is_empty()).await;
    view.until(|view| view.endpoints(&id()).len() == 1).await;
    assert_ne!(view.endpoints(&id())[0].id, before);
    assert_eq!(fake.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn failures_come_as_scripted_and_calls_are_recorded() {
    let fake = fake();
    fake.fail_next([ScaleError::Busy(START), ScaleError::Refused("no".into())]);
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(fake.scale(&target(), Replicas::ZERO, Replicas::ONE, &[]).await);
    }
    assert_eq!(answers, [Err(ScaleError::Busy(START)), Err(ScaleError::Refused("no".into())), Ok(())]);
    let recorded: Vec<_> = fake.calls().into_iter().map(|call| call.answer.unwrap()).collect();
    assert_eq!(recorded, answers);
}

#[tokio::test(start_paused = true)]
async fn a_partition_refuses_or_hangs_until_it_heals() {
    let fake = fake();
    let target = target();
    fake.set_reach(Reach::Refused);
    let answer = fake.scale(&target, Replicas::ZERO, Replicas::ONE, &[]).await;
    assert!(matches!(answer, Err(ScaleError::Unreachable(_))));
    fake.set_reach(Reach::Silent);
    let hanging = fake.scale(&target, Replicas::ZERO, Replicas::ONE, &[]);
    assert!(tokio::time::timeout(Duration::from_secs(3600), hanging).await.is_err());
    assert_eq!(fake.calls()[1].answer, None);
    let waiting = fake.scale(&target, Replicas::ZERO, Replicas::ONE, &[]);
    let heal = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fake.set_reach(Reach::Open);
    };
    assert_eq!(tokio::join!(waiting, heal).0, Ok(()));
    assert_eq!(fake.requested(&id()), Some(Replicas::ONE));
}

#[tokio::test(start_paused = true)]
async fn raising_never_lowers_what_somebody_else_has_raised() {
    let fake = fake();
    fake.set_replicas(&id(), Replicas::new(5));
    let answer = fake.scale(&target(), Replicas::ONE, Replicas::new(2), &[]).await;
    assert_eq!(answer, Err(ScaleError::Changed { now: Replicas::new(5) }));
    assert_eq!(fake.requested(&id()), Some(Replicas::new(5)));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_leaves_is_shown_until_it_is_gone_and_does_not_count() {
    let fake = fake();
    fake.set_replicas(&id(), Replicas::new(2));
    View::of(&fake).until(|view| view.ready(&id()) == 2).await;
    fake.set_stop_delay(START);
    let told = Instant::now();
    let mut changes = fake.watch();
    let victim = EndpointId::new("model-1");
    fake.scale(&target(), Replicas::new(2), Replicas::ONE, std::slice::from_ref(&victim)).await.unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(.., states): &(_, _, Vec<EndpointState>)| states.len() != 1) {
        let counts = changes.next().await.unwrap();
        let Change::Replicas { ready, terminating, .. } = counts else { continue };
        let Change::Endpoints { endpoints, .. } = changes.next().await.unwrap() else { panic!("counts and no list") };
        let states = endpoints.iter().map(|endpoint| endpoint.state).collect();
        seen.push((told.elapsed(), (ready.get(), terminating.get()), states));
    }
    let (ready, draining) = (EndpointState::Ready, EndpointState::Draining);
    let last = [(Duration::ZERO, (1, 1), vec![draining, ready]), (START, (1, 0), vec![ready])];
    assert_eq!(seen[seen.len() - 2..], last);
    fake.scale(&target(), Replicas::ONE, Replicas::new(2), &[]).await.unwrap();
    assert_eq!(fake.started(), 3, "what left does not come back");
}
