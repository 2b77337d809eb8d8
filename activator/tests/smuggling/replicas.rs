//! The corpus of replicas' answers: what the client who asked is told, and that nobody else hears of it.
//!
//! Invariant: what stands behind an answer is an answer of its own that would be somebody else's if anybody took it for
//! one: `hidden`.

use crate::judge;
use crate::strict::Request;
use crate::world::{self, Reply, World};

/// What must never be the answer to another request.
const HIDDEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhidden";

/// What the client of the first request is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// 502 by the activator, or an answer that breaks off.
    Broken,
    /// This, whole.
    Whole(u16, &'static str),
    /// Nothing yet.
    Waits,
}

use Told::{Broken, Waits, Whole};

/// What a replica sends, and what becomes of it while its connection stays open.
pub(crate) fn corpus() -> Vec<(String, Told)> {
    let head = |fields: &str, rest: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{rest}");
    let chunked = |rest: &str| head("transfer-encoding: chunked", rest);
    let mut all = Vec::new();
    for fields in [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "content-length: 3\r\ncontent-length: 5",
        "content-length: 3, 5",
        "transfer-encoding: gzip, chunked",
        "content-length: +3",
        "content-length: -3",
        "content-length: 0x3",
        "content-length: 3;x",
        "content-length: 18446744073709551616",
        "content-length:",
        "content-length: 3\u{b}",
        "transfer-encoding: cow",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: \u{b}chunked",
        "transfer-encoding: xchunked",
        "x: a\r\n b\r\ncontent-length: 3",
        "content-length : 3",
        "x: a\0b\r\ncontent-length: 3",
        "x: a\rb\r\ncontent-length: 3",
        "x\r\ncontent-length: 3",
        ": x\r\ncontent-length: 3",
        "x y: z\r\ncontent-length: 3",
    ] {
        all.push((head(fields, "3\r\nabc\r\n0\r\n\r\n"), Broken));
    }
    for answer in [
        "HTTP/1.1 OK\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 20 OK\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 2000 OK\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 -20 OK\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 099 OK\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/2.0 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        "http/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        " HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1\t200 OK\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 O\0K\r\ncontent-length: 3\r\n\r\nabc",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc",
    ] {
        all.push((answer.to_owned(), Broken));
    }
    for rest in [
        "3\r\nabc\r\nzz\r\n",
        "3\r\nabcX\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc",
        "\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nx y: z\r\n\r\n",
    ] {
        all.push((chunked(rest), Broken));
    }
    all.push((format!("{}{HIDDEN}", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(101)), Broken));
    all.push((
        format!("{}{}", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100), head("content-length: 3", "abc")),
        Whole(200, "abc"),
    ));
    all.push((head("content-length: 9", "abc"), Waits));
    all.push((head("content-length: 3", &format!("abc{HIDDEN}")), Whole(200, "abc")));
    all.push((head("content-length: 3\r\ncontent-length: 3", &format!("abc{HIDDEN}")), Whole(200, "abc")));
    all.push((chunked(&format!("3\r\nabc\r\n0\r\n\r\n{HIDDEN}")), Whole(200, "abc")));
    let evil = "content-length: 9\r\nset-cookie: a=b\r\ntransfer-encoding: x\r\nok: 1";
    all.push((chunked(&format!("3\r\nabc\r\n0\r\n{evil}\r\n\r\n{HIDDEN}")), Whole(200, "abc")));
    for (status, fields) in [
        (204, ""),
        (304, "content-length: 6\r\n"),
        (304, "transfer-encoding: chunked\r\n"),
        (204, "content-length: 3\r\n"),
    ] {
        all.push((format!("HTTP/1.1 {status} X\r\n{fields}\r\n{HIDDEN}"), Whole(status, "")));
    }
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\ncontent-length: 5\r\n\r\n";
    all.push((format!("{hint}{}{HIDDEN}", head("content-length: 3", "abc")), Whole(200, "abc")));
    all
}

fn check(bytes: &str, told: Told) -> Result<(), String> {
    // A character a byte.
    let raw: Vec<u8> = bytes.chars().map(|char| u8::try_from(u32::from(char)).expect("a byte")).collect();
    judge::replica_bytes(&raw, &[], false)?;
    judge::replica_bytes(&raw, &[raw.len() / 2], false)?;
    judge::replica_bytes(&raw, &[raw.len() / 3, raw.len() / 2], true)?;
    let script = move |request: &Request| match request.target.as_slice() {
        b"/any" => Reply { pieces: vec![raw.clone()], closes: false },
        _ => Reply::ok("own"),
    };
    world::within(script, async |world: World| {
        let heard = world.get("/any").await;
        let answers = heard.answers();
        let as_told = match (told, &answers) {
            (Broken, Err(_)) => heard.closed,
            (Broken, Ok(answers)) => {
                answers.is_empty() && heard.closed || matches!(&answers[..], [answer] if answer.status == 502)
            }
            (Whole(status, body), Ok(answers)) => {
                matches!(&answers[..], [answer] if (answer.status, &answer.body[..]) == (status, body.as_bytes()))
            }
            (Waits, answers) => answers.is_err() && !heard.closed,
            (Whole(..), Err(_)) => false,
        };
        if as_told { Ok(()) } else { Err(format!("the client was told {heard:?}")) }
    })
}

#[test]
fn an_answer_is_understood_in_one_way_or_is_none() {
    let wrong: Vec<String> = corpus()
        .into_iter()
        .filter_map(|(bytes, told)| check(&bytes, told).err().map(|why| format!("{:.200?}: {told:?}: {why}", bytes)))
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Bytes that nobody asked for are on the line before the next request is.
#[test]
fn an_answer_that_comes_before_its_request_is_nobodys() {
    let script = |request: &Request| match request.target.as_slice() {
        b"/first" => Reply { pieces: [Reply::ok("abc").pieces, vec![HIDDEN.into()]].concat(), closes: false },
        _ => Reply::ok("own"),
    };
    world::within(script, async |world: World| {
        for target in ["/first", "/second", "/third"] {
            let answers = world.get(target).await.answers().unwrap();
            let expected: &[u8] = if target == "/first" { b"abc" } else { b"own" };
            assert!(matches!(&answers[..], [answer] if answer.body == expected), "{target}: {answers:?}");
        }
    });
}
