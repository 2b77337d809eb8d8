//! One rule: what a client sends, and what must come of it.

use crate::frames::{ACK, Client, DATA, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, frame};
use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{GET, ok};
use domain::Protocol;
use std::net::SocketAddr;

/// What must come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// GOAWAY with this code, and the end of the connection.
    GoAway(u32),
    /// RST_STREAM with this code on stream 1; the connection goes on.
    Reset(u32),
    /// The end of the connection, without a GOAWAY.
    Closed,
    /// An answer with this status on stream 1; the connection goes on.
    Status(u16),
    /// Nothing: the connection goes on as if it had not been sent.
    Ignored,
    /// A frame of this kind with these flags and this payload; the connection goes on.
    Frame(u8, u8, &'static [u8]),
}

/// Why another code than the section's came, where the connection ends in either case.
pub(crate) const ONE_CODE: &str = "the library has one code for all that it cannot read";
/// Why all of the connection ended and not one stream.
pub(crate) const MORE_THAN_A_STREAM: &str =
    "the library takes it for an error of the connection, as section 5.4.1 allows";

/// A step of a client.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Writes this.
    Send(Vec<u8>),
    /// Waits for the end of the answer on a stream.
    Answered(u32),
    /// Waits until its stream was reset.
    WasReset(u32),
}

/// A rule of a section.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) section: &'static str,
    pub(crate) what: &'static str,
    pub(crate) steps: Vec<Step>,
    pub(crate) then: Then,
    /// Where it is not what the section says first: what that would be, and why this is right too.
    pub(crate) instead: Option<(Then, &'static str)>,
}

/// A case whose client sends all in one breath.
pub(crate) fn case(section: &'static str, what: &'static str, sent: &[Vec<u8>], then: Then) -> Case {
    steps(section, what, vec![Step::Send(sent.concat())], then)
}

/// A case whose client waits in between.
pub(crate) const fn steps(section: &'static str, what: &'static str, steps: Vec<Step>, then: Then) -> Case {
    Case { section, what, steps, then, instead: None }
}

impl Case {
    /// A stated deviation: the section would have `usual`.
    pub(crate) const fn not(mut self, usual: Then, reason: &'static str) -> Self {
        self.instead = Some((usual, reason));
        self
    }
}

/// A replica that answers with `hello`, except for `/held`, and an activator in front of it.
pub(crate) async fn rig() -> (Rig, Backend) {
    let backend = Backend::script(|mut wire, _, backend| async move {
        while let Some(request) = wire.request().await {
            let held = request.target() == "/held";
            backend.note(request);
            if held {
                wire.rest().await;
                return;
            }
            wire.send(ok("hello")).await;
        }
    })
    .await;
    (Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await, backend)
}

/// Whoever keeps to the rules is served, over HTTP/1.1 and HTTP/2.
#[track_caller]
pub(crate) fn others_are_served(rig: &Rig) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let answer = rig.client().await.ask(GET).await;
        assert_eq!(answer.status(), 200, "over HTTP/1.1, at {place}");
        let mut client = Client::new(rig.addresses[0]).await;
        assert!(client.is_served(1).await, "over HTTP/2, at {place}");
    }
}

/// What came of the last step.
///
/// The answer to a ping comes after whatever the library has to say about the steps, that to a second one after what it
/// queued meanwhile. An answer of a replica's may come later, so only that is waited for without them.
async fn verdict(client: &mut Client, then: Then) -> Then {
    const MARK: &[u8] = b"the mark";
    client.send(frame(PING, 0, 0, MARK)).await;
    let (mut marks, mut answered) = (0, None);
    while marks < 2 || matches!(then, Then::Status(_)) {
        let Some(came) = client.next().await else { return Then::Closed };
        match came.kind {
            GOAWAY => {
                let code = came.code();
                while client.next().await.is_some() {}
                return Then::GoAway(code);
            }
            RST_STREAM if came.stream == 1 => return Then::Reset(came.code()),
            HEADERS if came.stream == 1 => {
                answered = Some(Then::Status(came.status()));
                if matches!(then, Then::Status(_)) {
                    break;
                }
            }
            PING if came.flags == ACK && came.payload == MARK => {
                marks += 1;
                client.send(frame(PING, 0, 0, MARK)).await;
            }
            _ => {
                if let Then::Frame(kind, flags, payload) = then
                    && (came.kind, came.flags, &*came.payload) == (kind, flags, payload)
                {
                    return then;
                }
            }
        }
    }
    if then == Then::Ignored { then } else { answered.unwrap_or(Then::Ignored) }
}

/// Runs one case on a connection of its own; what was wrong, if something was.
async fn run(address: SocketAddr, case: &Case) -> Option<String> {
    let mut client =
        if case.section.starts_with("3.") { Client::bare(address).await } else { Client::new(address).await };
    for step in &case.steps {
        match step {
            Step::Send(bytes) => {
                client.send(bytes).await;
            }
            Step::Answered(stream) => {
                client.until(|frame| frame.stream == *stream && frame.flags & 1 == 1 && frame.kind <= HEADERS).await;
            }
            Step::WasReset(stream) => {
                client.until(|frame| frame.stream == *stream && frame.kind == RST_STREAM).await;
            }
        }
    }
    let came = verdict(&mut client, case.then).await;
    if came != case.then {
        return Some(format!("{} {}: {:?} expected, {came:?} came", case.section, case.what, case.then));
    }
    let goes_on = !matches!(came, Then::GoAway(_) | Then::Closed);
    // A number that no case comes near.
    (goes_on && !client.is_served(0x1001).await)
        .then(|| format!("{} {}: the connection did not go on", case.section, case.what))
}

/// Runs a table.
#[track_caller]
pub(crate) fn all(cases: Vec<Case>) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let (rig, _backend) = rig().await;
        let mut wrong = Vec::new();
        for case in &cases {
            if let Some((usual, reason)) = case.instead {
                assert!(usual != case.then && !reason.is_empty(), "{}: that is no deviation", case.what);
            }
            wrong.extend(run(rig.addresses[0], case).await);
        }
        assert!(wrong.is_empty(), "of {} cases at {place}:\n{}", cases.len(), wrong.join("\n"));
        others_are_served(&rig).await;
        rig.at_rest().await;
    }
}

/// The beginning of a connection, before anything of the case.
pub(crate) fn preface() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// A frame of DATA is what ends the answer of [`rig`]'s replica.
#[tokio::test]
async fn the_usual_request_is_answered() {
    let (rig, backend) = rig().await;
    let mut client = Client::new(rig.addresses[0]).await;
    assert!(client.is_served(1).await);
    let body = client.until(|frame| frame.kind == DATA).await;
    assert_eq!((&*body.payload, backend.count()), (&b"hello"[..], 1));
}
