use super::*;
use crate::testing::{Reach, Server, settle};
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;

fn place() -> Place {
    Place { namespace: "kpa".into(), name: "kpa-autoscaler".into() }
}

fn wall_clock() -> WallTime {
    WallTime::from_unix_millis(1_700_000_000_000)
}

/// Candidates that run, by name.
struct Bench {
    server: Server,
    tasks: JoinSet<()>,
}

impl Bench {
    fn new() -> Self {
        Self { server: Server::default(), tasks: JoinSet::new() }
    }

    /// Starts a candidate; what it says is done at once, in tests without delays.
    fn start(&mut self, name: &str) -> Standing {
        let client = self.server.client(name);
        let (elector, standing) = Elector::new(client, place(), name, Settings::default(), wall_clock);
        self.tasks.spawn(elector.run(std::future::pending()));
        standing
    }

    fn holder(&self) -> String {
        self.server
            .lease()
            .map(|lease| lease["spec"]["holderIdentity"].as_str().unwrap().to_owned())
            .unwrap_or_default()
    }
}

fn leads(standing: &Standing) -> bool {
    standing.leadership().borrow().leads(Instant::now())
}

/// Waits until somebody leads: how long that took.
async fn until_leading(standing: &Standing) -> Duration {
    let (began, mut leadership) = (Instant::now(), standing.leadership());
    leadership.wait_for(|leadership| leadership.leads(Instant::now())).await.unwrap();
    began.elapsed()
}

async fn until_following(standing: &Standing) -> Duration {
    let (began, mut leadership) = (Instant::now(), standing.leadership());
    leadership.wait_for(|leadership| *leadership == Leadership::Follower).await.unwrap();
    began.elapsed()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads_and_goes_on_leading() {
    let mut bench = Bench::new();
    let (a, b) = (bench.start("a_1"), bench.start("b_2"));
    settle().await;
    assert!(leads(&a) != leads(&b));
    let (leader, follower) = if leads(&a) { ("a_1", b) } else { ("b_2", a) };
    for _ in 0..60 {
        tokio::time::sleep(secs(1)).await;
        assert!(!leads(&follower));
    }
    assert_eq!(bench.holder(), leader);
    assert_eq!(bench.server.calls(leader, &Method::PUT), 30, "a renewal every 2 s");
    assert_eq!(bench.server.lease().unwrap()["spec"]["leaseTransitions"], 0);
}

/// SIGTERM: whoever goes releases the lease, and the next one sees it at once.
#[tokio::test(start_paused = true)]
async fn a_successor_leads_within_a_second_of_a_release() {
    let mut bench = Bench::new();
    let a = bench.start("a_1");
    until_leading(&a).await;
    let b = bench.start("b_2");
    tokio::time::sleep(secs(7)).await;
    let began = Instant::now();
    a.resign().await;
    assert!(!leads(&a));
    until_leading(&b).await;
    assert!(began.elapsed() < secs(1), "{:?}", began.elapsed());
    assert_eq!(bench.server.lease().unwrap()["spec"]["leaseTransitions"], 1);
    // And for good.
    tokio::time::sleep(secs(60)).await;
    assert!(!leads(&a) && leads(&b));
}

#[tokio::test(start_paused = true)]
async fn without_a_watch_a_release_is_seen_within_a_retry_period() {
    let mut bench = Bench::new();
    let a = bench.start("a_1");
    until_leading(&a).await;
    let b = bench.start("b_2");
    tokio::time::sleep(secs(7)).await;
    bench.server.drop_watches();
    a.resign().await;
    assert!(until_leading(&b).await <= secs(2));
}

/// kill -9.
#[tokio::test(start_paused = true)]
async fn a_successor_of_one_that_died_leads_within_18_s() {
    let mut bench = Bench::new();
    let a = bench.start("a_1");
    until_leading(&a).await;
    tokio::time::sleep(secs(7)).await;
    bench.tasks.shutdown().await;
    // Its container comes back as another candidate, which knows nothing of the one before.
    let again = bench.start("a_2");
    let taken = until_leading(&again).await;
    assert!(taken >= secs(14) && taken < secs(18), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn behind_a_frozen_server_leadership_is_dropped_before_it_runs_out() {
    let mut bench = Bench::new();
    let a = bench.start("a_1");
    until_leading(&a).await;
    tokio::time::sleep(secs(7)).await; // The last renewal was sent at 6 s.
    let Leadership::Leader { until: Some(until) } = *a.leadership().borrow() else { panic!("it leads") };
    bench.server.set_reach("a_1", Reach::Frozen);
    assert_eq!(until_following(&a).await, secs(9));
    assert_eq!(until - Instant::now(), secs(4), "and nobody may take over for a second more");
    bench.server.set_reach("a_1", Reach::Open);
    assert!(until_leading(&a).await <= secs(2), "what it finds is its own");
}

#[tokio::test(start_paused = true)]
async fn of_two_the_one_that_is_cut_off_stops_before_the_other_begins() {
    for reach in [Reach::Frozen, Reach::Mute, Reach::Refused] {
        let mut bench = Bench::new();
        let a = bench.start("a_1");
        until_leading(&a).await;
        let b = bench.start("b_2");
        tokio::time::sleep(secs(7)).await;
        let began = Instant::now();
        bench.server.set_reach("a_1", reach);
        let mut gap = Duration::ZERO;
        while !leads(&b) {
            let both = leads(&a) && leads(&b);
            assert!(!both, "{reach:?}");
            if !leads(&a) {
                gap += Duration::from_millis(100);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Where only answers are lost, renewals still arrive for a while, and are none.
        assert!(began.elapsed() <= secs(17), "{reach:?}: {:?}", began.elapsed());
        assert!(gap >= secs(3), "{reach:?}: {gap:?}");
        bench.server.set_reach("a_1", Reach::Open);
        tokio::time::sleep(secs(30)).await;
        assert!(leads(&b) && !leads(&a), "{reach:?}: who comes back follows");
    }
}

/// SIGSTOP, one minute, SIGCONT: nothing of this process ran meanwhile, and another one has led for a while.
#[tokio::test(start_paused = true)]
async fn who_slept_for_a_minute_does_not_lead_on_waking() {
    let mut bench = Bench::new();
    let a = bench.start("a_1");
    until_leading(&a).await;
    // Not a sleep: no task gets to run until the clock stands one minute later.
    tokio::time::advance(secs(60)).await;
    assert!(!leads(&a), "whoever looks sees that it has ended");
    assert!(a.call().is_none());
    bench.server.set_reach("a_1", Reach::Frozen);
    settle().await;
    assert_eq!(*a.leadership().borrow(), Leadership::Follower);
    bench.server.set_reach("a_1", Reach::Open);
    settle().await;
    assert!(leads(&a), "only a new renewal gives it back");
}

/// Before the lease is released, nothing of ours that needed it is on its way any more.
#[tokio::test(start_paused = true)]
async fn a_release_waits_for_our_own_calls_and_lets_no_new_one_begin() {
    let mut bench = Bench::new();
    let a = bench.start("a_1");
    until_leading(&a).await;
    let call = a.call().unwrap();
    let leaving = a.clone();
    bench.tasks.spawn(async move { leaving.resign().await });
    settle().await;
    assert!(!leads(&a) && a.call().is_none());
    assert_eq!(bench.holder(), "a_1", "not yet");
    drop(call);
    settle().await;
    assert_eq!(bench.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_ends_keeps_the_lease_from_being_released_and_nobody_waiting() {
    let mut bench = Bench::new();
    let a = bench.start("a_1");
    until_leading(&a).await;
    let _call = a.call().unwrap();
    let began = Instant::now();
    a.resign().await;
    assert_eq!(began.elapsed(), CALL_TIMEOUT);
    assert_eq!(bench.holder(), "a_1", "it runs out");
}

#[tokio::test(start_paused = true)]
async fn resigning_ends_in_time_behind_a_frozen_server() {
    let mut bench = Bench::new();
    let a = bench.start("a_1");
    until_leading(&a).await;
    bench.server.set_reach("a_1", Reach::Frozen);
    tokio::time::sleep(secs(3)).await;
    let began = Instant::now();
    a.resign().await;
    assert!(began.elapsed() <= 3 * CALL_TIMEOUT, "{:?}", began.elapsed());
    a.resign().await;
}

#[tokio::test(start_paused = true)]
async fn calls_are_begun_only_while_enough_of_the_lease_is_left() {
    let mut bench = Bench::new();
    let a = bench.start("a_1");
    assert!(a.call().is_none());
    until_leading(&a).await;
    bench.server.set_reach("a_1", Reach::Frozen);
    tokio::time::sleep(Duration::from_millis(9900)).await;
    assert!(a.call().is_some());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(a.call().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_others_write_into_the_object_stays() {
    let mut bench = Bench::new();
    let a = bench.start("a_1");
    until_leading(&a).await;
    let mut lease = bench.server.lease().unwrap();
    lease["metadata"]["labels"] = json!({ "team": "models" });
    bench.server.put_lease(Some(lease));
    tokio::time::sleep(secs(5)).await;
    assert!(leads(&a));
    assert_eq!(bench.server.lease().unwrap()["metadata"]["labels"]["team"], "models");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_or_stolen_lease_ends_leadership_at_once() {
    let mut bench = Bench::new();
    let a = bench.start("a_1");
    until_leading(&a).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut stolen = bench.server.lease().unwrap();
    stolen["spec"]["holderIdentity"] = json!("x_9");
    bench.server.put_lease(Some(stolen));
    settle().await;
    assert!(!leads(&a));

    let mut bench = Bench::new();
    let a = bench.start("a_1");
    until_leading(&a).await;
    let before = bench.server.calls("a_1", &Method::POST);
    bench.server.put_lease(None);
    settle().await;
    assert_eq!(bench.server.calls("a_1", &Method::POST), before + 1, "made anew");
    assert!(leads(&a));
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_it_is_told_to() {
    let server = Server::default();
    let (elector, standing) = Elector::new(server.client("a_1"), place(), "a_1", Settings::default(), wall_clock);
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(elector.run(async move { drop(stopped.await) }));
    until_leading(&standing).await;
    stop.send(()).unwrap();
    tasks.join_next().await.unwrap().unwrap();
    standing.resign().await;
}

#[test]
fn a_candidate_is_named_after_its_pod_and_this_life_of_it() {
    assert_eq!(identity("kpa-autoscaler-7d9-x2k", 0x1f), "kpa-autoscaler-7d9-x2k_000000000000001f");
}
