//! Request smuggling: nothing that two readers could understand differently passes the activator, in either direction.
//!
//! Invariant: what a replica is sent is read by a strict reader of this test's own, which shares nothing with the product.

#![cfg(test)]

mod downgrade;
mod input;
mod judge;
mod replicas;
mod requests;
mod seeds;
mod strict;
mod world;

use requests::{Attack, Becomes, SMUGGLED, Then};
use world::{Reply, World};

/// What must be true of an attack, sent in these pieces.
fn check(attack: &Attack, pieces: &[&[u8]]) -> Result<(), String> {
    world::within(
        |_| Reply::ok("own"),
        async |world: World| {
            let mut client = world.client().await;
            for piece in pieces {
                client.send(piece).await;
            }
            let heard = client.heard();
            let statuses: Vec<u16> = heard.answers()?.iter().map(|answer| answer.status).collect();
            let refused = |status: &u16| (400..500).contains(status) || matches!(status, 501 | 505);
            let seen = world.seen();
            let outcome = match &attack.becomes {
                Becomes::Refused => {
                    seen.is_empty() && heard.closed && matches!(&statuses[..], [status] if refused(status))
                }
                Becomes::Answered(status) => seen.is_empty() && !heard.closed && statuses == [*status],
                Becomes::Nothing => seen.is_empty() && statuses.is_empty() && !heard.closed,
                Becomes::One(method, target, body, then) => {
                    let whole = matches!(&seen[..], [request] if (request.method.as_str(), &request.target[..], &request.body[..])
                    == (*method, target.as_bytes(), body.as_bytes()));
                    whole
                        && match then {
                            Then::Open => !heard.closed && statuses == [200],
                            Then::Closed => heard.closed && statuses == [200],
                            Then::Refused => heard.closed && matches!(&statuses[..], [200, status] if refused(status)),
                        }
                }
            };
            if !outcome {
                return Err(format!("answered {statuses:?}, closed: {}, forwarded {seen:?}", heard.closed));
            }
            if matches!(attack.becomes, Becomes::One(_, _, _, Then::Open)) {
                client.send(b"GET /end HTTP/1.1\r\nhost: svc.default\r\n\r\n").await;
                if world.seen().len() != 2 || client.heard().answers()?.len() != 2 {
                    return Err(format!("the next request on the connection was not answered: {:?}", client.heard()));
                }
            }
            let smuggled = |target: &[u8]| target.windows(8).any(|eight| eight == b"smuggled");
            if world.seen().iter().any(|request| smuggled(&request.target)) || !world.faults().is_empty() {
                return Err(format!("smuggled: {:?} {:?}", world.seen(), world.faults()));
            }
            let others = world.get("/well-behaved").await;
            match &others.answers()?[..] {
                [answer] if answer.status == 200 && answer.body == b"own" => Ok(()),
                answers => Err(format!("somebody else was answered {answers:?}")),
            }
        },
    )
}

#[track_caller]
fn check_all(attacks: &[Attack]) {
    let mut wrong = Vec::new();
    for attack in attacks {
        let bytes = &attack.bytes[..];
        let halves = [&bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]];
        for pieces in [&[bytes][..], &halves] {
            if let Err(why) = check(attack, pieces) {
                wrong.push(format!(
                    "{:?} in {}: {:?}: {why}",
                    String::from_utf8_lossy(bytes),
                    pieces.len(),
                    attack.becomes
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn requests_are_refused_or_become_exactly_one() {
    let corpus = requests::corpus();
    let refused = corpus.iter().filter(|attack| attack.becomes == Becomes::Refused);
    assert!(refused.into_iter().all(|attack| attack.bytes.ends_with(SMUGGLED.as_bytes())));
    check_all(&corpus);
}
