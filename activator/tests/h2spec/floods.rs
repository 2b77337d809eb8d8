//! Clients that send more than anybody can want: each is refused by name or held up, and those beside it are served.

use crate::case::{others_are_served, rig};
use crate::frames::*;
use crate::rig::{Rig, limits, set};
use crate::wire::{eventually, soon};
use activator::Settings;
use activator::bounds::Limit;
use activator::connection::{H2_CANCELS_MAX, H2_ERROR_RESETS_MAX, H2_PENDING_RESETS_MAX};
use domain::Protocol;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Streams numbered as a client does.
fn streams(count: usize) -> impl Iterator<Item = u32> {
    (0..u32::try_from(count).unwrap()).map(|n| 2 * n + 1)
}

/// Floods that end their connection, with a GOAWAY that says why.
#[tokio::test]
async fn floods_that_cost_something_end_their_connection() {
    let malformed = block(&[&head("GET", "/")[..], &[("te", "gzip")]].concat());
    let large = field("x", &"y".repeat(126)).repeat(125);
    for (what, flood) in [
        (
            "rapid reset",
            streams(10 * H2_PENDING_RESETS_MAX).flat_map(|n| [get(n, "/held"), reset(n)].concat()).collect(),
        ),
        (
            "malformed requests",
            streams(2 * H2_ERROR_RESETS_MAX).flat_map(|n| frame(HEADERS, WHOLE, n, &malformed)).collect(),
        ),
        (
            "an endless head of nothing",
            [frame(HEADERS, 0, 1, &[]), frame(CONTINUATION, 0, 1, &[]).repeat(1000)].concat(),
        ),
        ("an endless head", [frame(HEADERS, 0, 1, &large), frame(CONTINUATION, 0, 1, &large).repeat(1000)].concat()),
        ("empty data", [post(1, "/held"), data(0, 1, b"").repeat(100_000)].concat()),
    ]
    .map(|(what, flood): (_, Vec<u8>)| (what, flood))
    {
        let (rig, _backend) = rig().await;
        others_are_served(&rig).await;
        let mut client = Client::new(rig.addresses[0]).await;
        // It may be closed before it has sent everything.
        let (mut reader, mut writer) = tokio::io::split(client.stream);
        let tasks = runtime::Tasks::new();
        tasks.spawn("flood", async move { drop(writer.write_all(&flood).await) });
        let mut said = Vec::new();
        let _ = soon(tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut said)).await;
        let farewell = [GOAWAY, 0, 0, 0, 0, 0];
        let at = said.windows(farewell.len()).rposition(|six| six == farewell);
        let at = at.unwrap_or_else(|| panic!("{what}: no GOAWAY in {} bytes", said.len()));
        let code = &said[at + farewell.len() + 4..][..4];
        assert_eq!(code, ENHANCE_YOUR_CALM.to_be_bytes(), "{what}");
        eventually("it is counted", || rig.refused(Limit::Resets) == 1).await;
        others_are_served(&rig).await;
        soon(tasks.wait()).await;
        rig.at_rest().await;
        client = Client::new(rig.addresses[0]).await;
        assert!(client.is_served(1).await, "{what}: the same client may come again");
    }
}

/// Bytes of `flood`, again and again, that were taken before its sender was held up.
async fn taken(client: &mut Client, flood: &[u8]) -> u64 {
    let (mut taken, mut at) = (0, 0);
    // Nothing was taken for so long: then nothing will be.
    while let Ok(count) = tokio::time::timeout(Duration::from_millis(300), client.stream.write(&flood[at..])).await {
        let count = count.unwrap();
        at = (at + count) % flood.len();
        taken += count as u64;
        assert!(taken < 256 << 20, "{taken} bytes were taken from a client that reads nothing");
    }
    taken
}

/// Who does not read the answers to its frames is not read either: no answer queues up. Its connection is idle all the
/// while and ends as such.
#[tokio::test]
async fn answers_that_nobody_reads_do_not_queue_up() {
    for (what, one) in [("pings", frame(PING, 0, 0, &[1; 8])), ("settings", settings(&[(3, 100)]))] {
        let settings = Settings { keep_alive: Duration::from_secs(2), ..Settings::default() };
        let (plain, backend) = rig().await;
        drop(plain);
        let rig = Rig::with(settings, limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
        let mut client = Client::new(rig.addresses[0]).await;
        let flood = one.repeat(4096);
        let taken = taken(&mut client, &flood).await;
        assert!(taken > 64 << 10, "{what}: {taken}");
        others_are_served(&rig).await;
        eventually(what, || rig.activator.revisions().bounds().stock(activator::bounds::Stock::Connections) == 0).await;
    }
}

/// Frames that cost nothing to hold are read for as long as they come; between any two reads others have their turn.
#[tokio::test]
async fn floods_that_cost_nothing_leave_others_alone() {
    for (what, one) in [
        ("priorities", frame(PRIORITY, 0, 1, &[0; 5])),
        ("windows of one byte", window_update(0, 1)),
        ("frames that nobody knows", frame(0xee, 0, 0, &[0; 8])),
        ("pings whose answers are read", frame(PING, 0, 0, &[1; 8])),
        ("settings whose confirmations are read", settings(&[(3, 100)])),
    ] {
        let (rig, _backend) = rig().await;
        let client = Client::new(rig.addresses[0]).await;
        let (mut reader, mut writer) = client.stream.into_split();
        let (tasks, written) = (runtime::Tasks::new(), Arc::<AtomicU64>::default());
        let counter = Arc::clone(&written);
        let flooding = tokio_util::sync::CancellationToken::new();
        let stop = flooding.clone();
        let flood = one.repeat(2048);
        tasks.spawn("flood", async move {
            while !stop.is_cancelled() {
                writer.write_all(&flood).await.unwrap();
                counter.fetch_add(flood.len() as u64, Relaxed);
            }
            // Still of use: it is asked for one thing more.
            writer.write_all(&get(1, "/")).await.unwrap();
            writer.write_all(&frame(GOAWAY, 0, 0, &[0; 8])).await.unwrap();
            std::future::pending::<()>().await;
        });
        let served = runtime::Tasks::new();
        served.spawn("reader", async move {
            let mut sink = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut sink).await;
            assert!(sink.windows(5).any(|five| five == b"hello"), "the flooding client's own request was not answered");
        });
        for _ in 0..20 {
            let before = written.load(Relaxed);
            others_are_served(&rig).await;
            eventually(what, || written.load(Relaxed) > before).await;
        }
        flooding.cancel();
        soon(served.wait()).await;
        rig.at_rest().await;
    }
}

/// Rapid reset at a rhythm in which each request has just reached its replica: it gets around the bound on open streams.
#[tokio::test]
async fn a_client_that_gives_up_most_of_what_it_asks_is_told_to_calm_down() {
    const AT_ONCE: usize = 50;
    let (rig, _backend) = rig().await;
    let mut client = Client::new(rig.addresses[0]).await;
    let mut cancelled = 0;
    for numbers in streams(20 * AT_ONCE).collect::<Vec<_>>().chunks(AT_ONCE) {
        if !client.send(numbers.iter().flat_map(|n| get(*n, "/held")).collect::<Vec<_>>()).await {
            break;
        }
        eventually("they run, or were refused", || {
            rig.in_flight() as usize == AT_ONCE || rig.refused(Limit::Resets) == 1
        })
        .await;
        if rig.refused(Limit::Resets) == 1 {
            break;
        }
        client.send(numbers.iter().flat_map(|n| reset(*n)).collect::<Vec<_>>()).await;
        rig.at_rest().await;
        cancelled += AT_ONCE;
    }
    assert_eq!(client.ends().await, Some(ENHANCE_YOUR_CALM));
    let bound = H2_CANCELS_MAX as usize;
    assert!((bound..=bound + 2 * AT_ONCE).contains(&cancelled), "{cancelled}");
    assert_eq!(rig.refused(Limit::Resets), 1);
    others_are_served(&rig).await;
    rig.at_rest().await;
}

/// As many are given up as are waited for: a client whose calls have deadlines, or that asks twice and takes what is first.
#[tokio::test]
async fn a_client_that_gives_up_less_than_half_goes_on() {
    let (rig, backend) = rig().await;
    let mut client = Client::new(rig.addresses[0]).await;
    let mut numbers = streams(10_000);
    for n in 1..=H2_CANCELS_MAX as usize + 100 {
        let (given_up, waited_for, also) = (numbers.next().unwrap(), numbers.next().unwrap(), numbers.next().unwrap());
        client.send([get(given_up, "/held"), get(waited_for, "/"), get(also, "/")].concat()).await;
        for _ in 0..2 {
            // In whichever order they come.
            let came = client.until(|frame| frame.kind == DATA).await;
            assert!([waited_for, also].contains(&came.stream), "{came:?}");
        }
        eventually("the replica has all", || backend.count() == 3 * n).await;
        client.send(reset(given_up)).await;
    }
    rig.at_rest().await;
    assert!(client.is_served(numbers.next().unwrap()).await);
    assert_eq!(rig.refused(Limit::Resets), 0);
}
