//! What must hold whatever a client or a replica sends.
//!
//! Invariant: the judge knows the bytes of both sides and the strict reader's view of them, and nothing of the activator.

use crate::strict::{self, Eyes, Request};
use crate::world::{self, Heard, Reply, World};

/// What a well-behaved client asks for afterwards, and gets.
const AFTER: &str = "/well-behaved";
/// How an HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a message is to whoever acts on it.
fn essence(request: &Request) -> (&str, Vec<u8>, &[u8]) {
    (&request.method, path(&request.target), &request.body)
}

/// A target as a replica gets it: less scheme and authority (RFC 9112 section 3.2.2), less what stands behind `#`.
fn path(target: &[u8]) -> Vec<u8> {
    let target = target.split(|byte| *byte == b'#').next().unwrap_or_default();
    let Some(at) = target.windows(3).position(|three| three == b"://").filter(|_| target[0] != b'/') else {
        return target.to_vec();
    };
    let rest = &target[at + 3..];
    match rest.iter().position(|byte| matches!(byte, b'/' | b'?')) {
        None => b"/".to_vec(),
        Some(at) if rest[at] == b'?' => [b"/", &rest[at..]].concat(),
        Some(at) => rest[at..].to_vec(),
    }
}

/// Sends a client's bytes, cut at some places, and judges what the replica was sent.
///
/// # Errors
/// What must not be.
pub(crate) fn client_bytes(bytes: &[u8], cuts: &[usize]) -> Result<(), String> {
    let pieces = cut(bytes, cuts);
    world::within(
        |request| Reply::ok(&String::from_utf8_lossy(&request.target)),
        async |world: World| {
            let heard = world.attack(pieces).await;
            let forwarded = world.seen();
            let faults = world.faults();
            if is_internal(&heard) {
                return Err(format!("a defect: {heard:?}"));
            }
            if !faults.is_empty() {
                return Err(format!("forwarded what no strict reader takes: {faults:?}"));
            }
            if bytes.starts_with(PREFACE) {
                return afterwards(&world).await;
            }
            // Each request that went on is one that the client has sent whole and that has one meaning only, in its order.
            let (sent, _) = strict::requests(bytes, Eyes::Client);
            let mut left = sent.iter();
            for request in &forwarded {
                if !left.any(|sent| essence(sent) == essence(request)) {
                    return Err(format!("forwarded what was not sent: {request:?}; sent: {sent:?}"));
                }
            }
            // Those with nothing about them that the activator answers for itself all went on.
            let plain = sent.iter().take_while(|request| is_plain(request)).count();
            if forwarded.len() < plain {
                return Err(format!(
                    "forwarded {} of {plain} plain requests: {sent:?}; answered {heard:?}",
                    forwarded.len()
                ));
            }
            if let Err(why) = heard.answers()
                && heard.closed
                && !sent.iter().any(|request| request.method == "HEAD")
            {
                return Err(format!("answered with what no strict reader takes, {why}: {heard:?}"));
            }
            afterwards(&world).await
        },
    )
}

/// Somebody else is served as if nothing had happened.
async fn afterwards(world: &World) -> Result<(), String> {
    if world.has_failed() {
        return Err("a task panicked".to_owned());
    }
    let before = world.seen().len();
    let heard = world.get(AFTER).await;
    let answers = heard.answers()?;
    let own = matches!(&answers[..], [answer] if answer.status == 200 && answer.body == AFTER.as_bytes());
    let seen = world.seen();
    if !own || seen.len() != before + 1 || seen.last().is_none_or(|request| request.target != AFTER.as_bytes()) {
        return Err(format!("somebody else was answered {heard:?}; the replica saw {seen:?}"));
    }
    Ok(())
}

/// Whether the activator says that it has failed: what a panic becomes.
fn is_internal(heard: &Heard) -> bool {
    let answers = heard.answers().unwrap_or_default();
    answers.iter().any(|answer| strict::all(&answer.fields, "x-kpa-reason") == [b"internal"])
}

/// Whether nothing but forwarding can be done with it.
fn is_plain(request: &Request) -> bool {
    let usual = ["host", "content-length", "transfer-encoding", "accept", "x", "a"];
    request.is_11
        && matches!(request.method.as_str(), "GET" | "POST" | "PUT")
        && request.target.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'/')
        && request.target.starts_with(b"/")
        && request.trailers.is_empty()
        && request.fields.len() < 50
        && request.fields.iter().all(|(name, value)| usual.contains(&name.as_str()) && value.len() < 100)
        && strict::all(&request.fields, "host") == [b"svc.default"]
}

/// Lets a replica answer with any bytes, cut at some places, and judges what clients are told.
///
/// # Errors
/// What must not be.
pub(crate) fn replica_bytes(bytes: &[u8], cuts: &[usize], closes: bool) -> Result<(), String> {
    let pieces: Vec<Vec<u8>> = cut(bytes, cuts).map(<[u8]>::to_vec).collect();
    let script = move |request: &Request| match request.target.as_slice() {
        b"/any" => Reply { pieces: pieces.clone(), closes },
        other => Reply::ok(&String::from_utf8_lossy(other)),
    };
    world::within(script, async |world: World| {
        let mut client = world.client().await;
        client.send(b"GET /any HTTP/1.1\r\nhost: svc.default\r\n\r\n").await;
        // Every piece is out, and so is what the activator made of it, before anybody else asks.
        for _ in 0..=cuts.len() {
            world::settle().await;
        }
        for target in ["/one", "/two"] {
            let heard = world.get(target).await;
            let answers = heard.answers()?;
            let [answer] = &answers[..] else { return Err(format!("{target} was answered {heard:?}")) };
            let own = answer.status == 200 && answer.body == target.as_bytes();
            // What the activator says for itself is nobody else's either.
            if !own && strict::all(&answer.fields, "x-kpa-reason").is_empty() {
                return Err(format!("{target} was answered with another's: {answer:?}"));
            }
        }
        let heard = client.heard();
        if heard.closed || heard.answers().is_ok() {
            match heard.answers() {
                // A broken answer breaks off at the client too; nothing is made up to end it.
                Err(why) if why == "an answer broke off" => {}
                Err(why) => return Err(format!("answered with what no strict reader takes, {why}: {heard:?}")),
                Ok(answers) if answers.len() > 1 => return Err(format!("one request, several answers: {heard:?}")),
                Ok(_) => {}
            }
        }
        if is_internal(&heard) || world.has_failed() {
            return Err(format!("a defect: {heard:?}"));
        }
        if world.faults().is_empty() { Ok(()) } else { Err(format!("{:?}", world.faults())) }
    })
}

/// The parts of `bytes` between `cuts`.
fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    let mut from = 0;
    ends.into_iter().filter_map(move |to| {
        let piece = &bytes[from..to];
        from = to;
        (!piece.is_empty()).then_some(piece)
    })
}
