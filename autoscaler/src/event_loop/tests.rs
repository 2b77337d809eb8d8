use super::*;
use crate::testing::{frame, platform, row};
use runtime::Tasks;

fn event_loop() -> (EventLoop, Inbox, watch::Receiver<bool>) {
    let around = Surroundings {
        id: ReporterId::new("s-1"),
        platform: Arc::new(platform()),
        clock: Clock::start(),
        wakes: None,
        orders: Orders::default(),
        meters: Arc::new(Meters::new()),
        stage: None,
        word: None,
    };
    let (event_loop, inbox, _done, synced) = EventLoop::new(BrainSettings::default(), around);
    (event_loop, inbox, synced)
}

#[tokio::test(start_paused = true)]
async fn what_is_urgent_is_taken_before_what_was_there_first() {
    let (event_loop, inbox, _) = event_loop();
    let (said, mut order) = mpsc::channel(64);
    let answers = Tasks::new();
    for (tick, urgent) in [(1, false), (2, false), (3, false), (4, true), (5, true)] {
        let mut sent = frame("a-1", tick, vec![row(tick, 1, 0)]);
        sent.urgent = urgent;
        let (reply, answer) = oneshot::channel();
        let chunk = FrameChunk::split(sent).remove(0);
        inbox.deliver(urgent, Delivery { chunk, reply: Some(reply) }).await.unwrap();
        let said = said.clone();
        answers.spawn("answer", async move {
            let ack: Ack = answer.await.unwrap();
            said.send(ack.seq).await.unwrap();
        });
    }
    let tasks = Tasks::new();
    tasks.service("event loop", event_loop.run(tasks.stopping()));
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(order.recv().await.unwrap());
    }
    assert_eq!(seen, [4, 5, 1, 2, 3]);
}

/// A process that was stopped for a while wakes up to a right that has ended, before anybody has told it so.
#[tokio::test(start_paused = true)]
async fn leadership_ends_by_the_clock_before_anything_else_is_done() {
    let (mut event_loop, _inbox, _) = event_loop();
    let until = Instant::now() + Duration::from_secs(14);
    event_loop.turn(Turn::Leadership, |me| me.lead(Leadership::Leader { until: Some(until) }));
    assert!(event_loop.leads);
    tokio::time::advance(Duration::from_secs(60)).await;
    event_loop.turn(Turn::Rows, |me| assert!(!me.leads, "what comes first is noticing"));
    // A late word about the lease that has ended gives nothing back; a new one does.
    event_loop.turn(Turn::Leadership, |me| me.lead(Leadership::Leader { until: Some(until) }));
    assert!(!event_loop.leads);
    let until = Instant::now() + Duration::from_secs(14);
    event_loop.turn(Turn::Leadership, |me| me.lead(Leadership::Leader { until: Some(until) }));
    assert!(event_loop.leads);
}

#[tokio::test(start_paused = true)]
async fn slots_are_aligned_to_the_clock_and_a_late_one_is_not_repeated() {
    let (event_loop, _inbox, _) = event_loop();
    tokio::time::advance(Duration::from_millis(250)).await;
    let clock = event_loop.around.clock;
    assert_eq!(clock.at(event_loop.next_slot()), domain::Timestamp::from_millis(300));
    tokio::time::advance(Duration::from_millis(50)).await;
    assert_eq!(clock.at(event_loop.next_slot()), domain::Timestamp::from_millis(400));
}

#[tokio::test(start_paused = true)]
async fn the_loop_is_in_sync_once_the_platform_has_told_everything_and_ends_when_told() {
    let (event_loop, _inbox, mut synced) = event_loop();
    assert!(!*synced.borrow());
    let tasks = Tasks::new();
    tasks.service("event loop", event_loop.run(tasks.stopping()));
    synced.wait_for(|synced| *synced).await.unwrap();
    tasks.stop();
    tasks.wait().await;
    assert!(!tasks.failed().is_cancelled());
}
