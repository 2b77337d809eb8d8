use super::*;
use crate::testing::{model, platform};
use platform::Leadership;
use platform::fake::{Fake, Reach, ScaleCall};
use runtime::Tasks;

struct Bench {
    fake: Fake,
    orders: Orders,
    done: mpsc::Receiver<Done>,
    wakes: Arc<WakeLog>,
    tasks: Tasks,
}

fn bench() -> Bench {
    let (fake, orders, wakes, tasks) = (platform(), Orders::default(), Arc::new(WakeLog::new()), Tasks::new());
    let (done, outcomes) = mpsc::channel(256);
    let applier = Applier {
        orders: orders.clone(),
        platform: Arc::new(fake.clone()),
        done,
        clock: Clock::start(),
        wakes: Some(wakes.clone()),
        meters: Arc::new(Meters::new()),
    };
    tasks.service("applier", applier.run(tasks.stopping()));
    Bench { fake, orders, done: outcomes, wakes, tasks }
}

fn order(from: u32, to: u32) -> Order {
    Order {
        revision: model(),
        target: ScaleTargetRef::deployment("default", "model"),
        from: Replicas::new(from),
        to: Replicas::new(to),
        remove_first: Vec::new(),
    }
}

impl Bench {
    async fn outcome(&mut self) -> ScaleOutcome {
        self.done.recv().await.unwrap().outcome
    }

    fn counts(&self) -> Vec<(u32, u32)> {
        self.fake.calls().iter().map(|ScaleCall { from, to, .. }| (from.get(), to.get())).collect()
    }
}

/// Long enough for everything that is due now, too short for anything that is not.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn the_latest_order_of_a_revision_wins() {
    let mut bench = bench();
    bench.fake.set_reach(Reach::Silent);
    bench.orders.give(order(0, 1));
    settle().await;
    bench.orders.give(order(0, 2));
    bench.orders.give(order(0, 3));
    settle().await;
    assert_eq!(bench.counts(), [(0, 1)], "one call of a revision at a time");
    bench.fake.set_reach(Reach::Open);
    assert_eq!(bench.outcome().await, ScaleOutcome::Accepted);
    assert_eq!(bench.outcome().await, ScaleOutcome::Accepted);
    assert_eq!(bench.counts(), [(0, 1), (0, 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_is_given_up_after_its_timeout() {
    let mut bench = bench();
    bench.fake.set_reach(Reach::Silent);
    let began = Instant::now();
    bench.orders.give(order(0, 1));
    assert_eq!(bench.outcome().await, ScaleOutcome::Failed { message: "no answer within 2s".into() });
    assert_eq!(began.elapsed(), CALL_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_without_lease_left_for_the_call() {
    let lease = |left: u64| Leadership::Leader { until: Some(Instant::now() + Duration::from_millis(left)) };
    for (leadership, called) in
        [(Leadership::Follower, false), (lease(2000), false), (lease(2001), true), (lease(0), false)]
    {
        let mut bench = bench();
        bench.fake.set_leadership(leadership);
        bench.orders.give(order(0, 1));
        assert_eq!(bench.outcome().await == ScaleOutcome::Accepted, called, "{leadership:?}");
        assert_eq!(bench.counts().len(), usize::from(called), "{leadership:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_and_a_success_ends_it() {
    let mut bench = bench();
    bench.fake.set_reach(Reach::Refused);
    for _ in 0..5 {
        bench.orders.give(order(0, 1));
        assert!(matches!(bench.outcome().await, ScaleOutcome::Failed { .. }));
    }
    let times: Vec<Instant> = bench.fake.calls().iter().map(|call| call.at).collect();
    let pauses: Vec<u128> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(pauses, [100, 200, 400, 800]);
    bench.fake.set_reach(Reach::Open);
    bench.orders.give(order(0, 1));
    assert_eq!(bench.outcome().await, ScaleOutcome::Accepted);
    let at = Instant::now();
    bench.orders.give(order(1, 2));
    assert_eq!(bench.outcome().await, ScaleOutcome::Accepted);
    assert_eq!(at.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_could_not_be_sent_is_dropped_and_said_to_be() {
    let mut bench = bench();
    bench.fake.fail_next([ScaleError::Busy(Duration::from_secs(8))]);
    bench.orders.give(order(0, 1));
    assert!(matches!(bench.outcome().await, ScaleOutcome::Failed { .. }));
    let given = Instant::now();
    bench.orders.give(order(0, 1));
    assert!(matches!(bench.outcome().await, ScaleOutcome::Failed { message } if message.contains("retried")));
    assert_eq!(given.elapsed(), ORDER_LIFE);
    assert_eq!(bench.counts().len(), 1, "what was withdrawn in silence is never sent late");
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_count_is_reported_and_costs_no_pause() {
    let mut bench = bench();
    bench.fake.set_replicas(&model(), Replicas::new(4));
    bench.orders.give(order(3, 1));
    assert_eq!(bench.outcome().await, ScaleOutcome::Changed { now: Replicas::new(4) });
    let at = Instant::now();
    bench.orders.give(order(4, 1));
    assert_eq!(bench.outcome().await, ScaleOutcome::Accepted);
    assert_eq!(at.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_are_bounded_and_the_others_follow() {
    let mut bench = bench();
    bench.fake.set_reach(Reach::Silent);
    for n in 0..CALLS_MAX + 6 {
        let revision = RevisionId::new("default", &format!("r{n}"));
        bench.orders.give(Order { revision, ..order(0, 1) });
    }
    settle().await;
    assert_eq!(bench.fake.calls().len(), CALLS_MAX);
    bench.fake.set_reach(Reach::Open);
    for _ in 0..CALLS_MAX + 6 {
        assert_eq!(bench.outcome().await, ScaleOutcome::Accepted);
    }
}

/// Whoever releases the lease after this finds no call of ours that could still land.
#[tokio::test(start_paused = true)]
async fn calls_under_way_are_seen_to_their_end_when_told_to_stop() {
    let mut bench = bench();
    bench.fake.set_reach(Reach::Silent);
    bench.orders.give(order(0, 1));
    settle().await;
    bench.orders.give(order(0, 2));
    bench.tasks.stop();
    settle().await;
    assert_eq!(bench.tasks.len(), 1, "it waits for the call");
    bench.fake.set_reach(Reach::Open);
    bench.tasks.wait().await;
    assert_eq!(bench.outcome().await, ScaleOutcome::Accepted);
    assert_eq!(bench.counts(), [(0, 1)], "what only waited is not sent any more");
}

#[tokio::test(start_paused = true)]
async fn only_a_start_from_zero_is_part_of_a_wake() {
    let mut bench = bench();
    bench.wakes.first_waiting(&model(), domain::Timestamp::ZERO);
    for (from, to) in [(1, 2), (0, 0)] {
        bench.orders.give(order(from, to));
        bench.outcome().await;
        assert_eq!(bench.wakes.all()[0].scale_called, None);
    }
    tokio::time::advance(Duration::from_millis(7)).await;
    bench.orders.give(order(0, 3));
    bench.outcome().await;
    assert_eq!(bench.wakes.all()[0].scale_called, Some(domain::Timestamp::from_millis(7)));
}

/// Time goes on while orders are looked through: with a running clock every look is a little later than its `now`.
#[tokio::test(start_paused = true)]
async fn a_free_lane_is_free_at_the_moment_asked_about() {
    let (orders, mut lanes, now) = (Orders::default(), Lanes::default(), Instant::now());
    orders.give(order(0, 1));
    tokio::time::advance(Duration::from_nanos(1)).await;
    assert_eq!(orders.due(&mut lanes, now, CALLS_MAX).send.len(), 1);
}
