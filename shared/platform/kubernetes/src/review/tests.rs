use super::*;
use crate::testing::{Reach, Server, settle};
use crate::token::AUDIENCE;
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW_SECS: u64 = 1_700_000_000;

fn wall_clock() -> WallTime {
    WallTime::from_unix_millis(NOW_SECS * 1000)
}

struct Bench {
    server: Server,
    reviewer: Reviewer,
}

#[expect(clippy::disallowed_methods, reason = "a test's own tasks end with its runtime")]
fn bench() -> Bench {
    let server = Server::default();
    let spawn: Spawn = Arc::new(|_, task| drop(tokio::spawn(task)));
    let reviewer = Reviewer::new(server.client("s"), AUDIENCE, spawn, wall_clock);
    Bench { server, reviewer }
}

/// What the API server says of a pod's token.
fn accepted(pod: &str) -> Value {
    json!({
        "authenticated": true,
        "audiences": ["kpa"],
        "user": {
            "username": "system:serviceaccount:kpa-system:kpa-activator",
            "extra": { "authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": ["u"] },
        },
    })
}

fn caller(pod: &str) -> Caller {
    let account = ServiceAccount { namespace: "kpa-system".into(), name: "kpa-activator".into() };
    Caller { account, pod: Some(pod.into()) }
}

fn refused(word: Word) -> String {
    match word {
        Err(Doubt::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn unknown(word: Word) -> String {
    match word {
        Err(Doubt::Unknown(why)) => why,
        other => panic!("{other:?}"),
    }
}

impl Bench {
    fn asked(&self) -> usize {
        self.server.calls("s", &Method::POST)
    }

    async fn pass(&self, secs: u64) {
        tokio::time::sleep(Duration::from_secs(secs)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_the_api_server_that_says_whose_a_token_is() {
    let bench = bench();
    bench.server.set_review("good", accepted("a-1"));
    assert_eq!(bench.reviewer.who("good").await, Ok(caller("a-1")));
    let status = |change: &dyn Fn(&mut Value)| {
        let mut status = accepted("a-1");
        change(&mut status);
        status
    };
    for (token, status, says) in [
        ("for nobody", status(&|status| status["audiences"] = json!([])), "not meant for kpa"),
        ("for others", status(&|status| status["audiences"] = json!(["https://kubernetes.default.svc"])), "not meant"),
        ("unaware", status(&|status| status["audiences"] = Value::Null), "not meant for kpa"),
        ("a person", status(&|status| status["user"]["username"] = json!("admin")), "\"admin\" is no service account"),
        ("odd", status(&|status| status["user"]["username"] = json!("system:serviceaccount:x")), "no service account"),
        ("no user", status(&|status| status["user"] = Value::Null), "no service account"),
        ("denied", status(&|status| status["authenticated"] = json!(false)), "does not know"),
        ("silent", json!({}), "does not know the token"),
    ] {
        bench.server.set_review(token, status);
        let why = refused(bench.reviewer.who(token).await);
        assert!(why.contains(says), "{token}: {why}");
    }
    assert_eq!(refused(bench.reviewer.who("never issued").await), "invalid bearer token");
    let mut by_hand = accepted("a-1");
    by_hand["user"]["extra"] = Value::Null;
    bench.server.set_review("made by hand", by_hand);
    assert_eq!(bench.reviewer.who("made by hand").await, Ok(Caller { pod: None, ..caller("") }));
}

#[tokio::test(start_paused = true)]
async fn a_success_is_kept_and_asked_about_again_before_it_ends() {
    let bench = bench();
    bench.server.set_review("good", accepted("a-1"));
    for second in 0..29 {
        assert_eq!(bench.reviewer.who("good").await, Ok(caller("a-1")), "{second}");
        bench.pass(1).await;
    }
    assert_eq!(bench.asked(), 1);
    bench.pass(2).await;
    assert_eq!(bench.reviewer.who("good").await, Ok(caller("a-1")));
    settle().await;
    assert_eq!(bench.asked(), 2, "beside the answer");
    bench.pass(29).await;
    assert_eq!((bench.reviewer.who("good").await, bench.asked()), (Ok(caller("a-1")), 2));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_withdrawn_is_heard_for_a_minute_at_most() {
    let bench = bench();
    bench.server.set_review("good", accepted("a-1"));
    assert!(bench.reviewer.who("good").await.is_ok());
    bench.server.set_review("good", json!({ "error": "the pod was deleted" }));
    bench.pass(60).await;
    assert_eq!(refused(bench.reviewer.who("good").await), "the pod was deleted");
    // And, where frames arrive all the time, for half a minute.
    bench.server.set_review("other", accepted("a-2"));
    assert!(bench.reviewer.who("other").await.is_ok());
    bench.server.set_review("other", json!({ "error": "the pod was deleted" }));
    for _ in 0..31 {
        bench.pass(1).await;
        let _ = bench.reviewer.who("other").await;
    }
    settle().await;
    assert_eq!(refused(bench.reviewer.who("other").await), "the pod was deleted");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_kept_for_five_seconds() {
    let bench = bench();
    for _ in 0..40 {
        refused(bench.reviewer.who("bad").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(bench.asked(), 1);
    bench.pass(1).await;
    bench.server.set_review("bad", accepted("a-1"));
    assert_eq!(bench.reviewer.who("bad").await, Ok(caller("a-1")), "who was too early is heard then");
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_is_away_those_who_were_known_are_heard_for_ten_minutes() {
    for reach in [Reach::Frozen, Reach::Refused] {
        let bench = bench();
        bench.server.set_review("good", accepted("a-1"));
        assert!(bench.reviewer.who("good").await.is_ok());
        bench.pass(100).await;
        bench.server.set_reach("s", reach);
        let mut waited = Duration::ZERO;
        for second in 100..599 {
            let began = Instant::now();
            assert_eq!(bench.reviewer.who("good").await, Ok(caller("a-1")), "{reach:?} {second}");
            waited = waited.max(began.elapsed());
            tokio::time::sleep_until(began + Duration::from_secs(1)).await;
        }
        assert!(waited <= PATIENCE, "{reach:?} {waited:?}: a frame has 800 ms");
        bench.pass(2).await;
        unknown(bench.reviewer.who("good").await);
        unknown(bench.reviewer.who("a stranger's").await);
        bench.server.set_reach("s", Reach::Open);
        bench.pass(7).await;
        assert_eq!(bench.reviewer.who("good").await, Ok(caller("a-1")), "{reach:?}");
    }
}

/// Whoever gave up waiting finds the word the next time: an API server that needs longer than a frame may is enough.
#[tokio::test(start_paused = true)]
async fn a_word_outlives_whoever_asked_for_it() {
    let bench = bench();
    bench.server.set_review("good", accepted("a-1"));
    bench.server.set_reach("s", Reach::Frozen);
    assert!(timeout(Duration::from_millis(800), bench.reviewer.who("good")).await.is_err());
    bench.server.set_reach("s", Reach::Open);
    settle().await;
    bench.server.set_reach("s", Reach::Frozen);
    assert_eq!(bench.reviewer.who("good").await, Ok(caller("a-1")));
    assert_eq!(bench.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn questions_under_way_are_bounded_and_one_for_each_token() {
    let bench = bench();
    bench.server.set_review("known", accepted("a-0"));
    assert!(bench.reviewer.who("known").await.is_ok());
    bench.server.set_reach("s", Reach::Frozen);
    let tokens: Vec<String> = (0..REVIEWS_AT_ONCE).map(|n| format!("t{n}")).collect();
    tokens.iter().for_each(|token| bench.server.set_review(token, accepted(token)));
    let all = tokens.iter().chain(&tokens).map(|token| bench.reviewer.who(token));
    let one_more = async {
        settle().await;
        let why = unknown(bench.reviewer.who("one more").await);
        assert!(why.contains("32 tokens"), "{why}");
        assert!(bench.reviewer.who("known").await.is_ok(), "who is known needs no room");
        bench.server.set_reach("s", Reach::Open);
    };
    let (words, ()) = tokio::join!(futures_util::future::join_all(all), one_more);
    assert!(words.iter().all(Result::is_ok));
    assert_eq!(bench.asked(), 1 + REVIEWS_AT_ONCE);
    assert!(bench.reviewer.0.state.lock().asked.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_question_that_was_dropped_gives_its_place_back() {
    let server = Server::default();
    let spawn: Spawn = Arc::new(|_, task| drop(task));
    let reviewer = Reviewer::new(server.client("s"), AUDIENCE, spawn, wall_clock);
    assert_eq!(unknown(reviewer.who("good").await), "the question was given up");
    assert!(reviewer.0.state.lock().asked.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_too_long_is_not_asked_about() {
    let bench = bench();
    let why = refused(bench.reviewer.who(&"x".repeat(TOKEN_BYTES_MAX + 1)).await);
    assert!(why.contains("16384"), "{why}");
    assert_eq!(bench.asked(), 0);
}

/// A JSON web token that ends at `exp`, in base64 without padding as it comes.
fn token(exp: u64) -> String {
    let claims = json!({ "aud": ["kpa"], "exp": exp, "sub": "system:serviceaccount:kpa-system:kpa-activator" });
    let text = serde_json::to_value(ByteString(claims.to_string().into_bytes())).unwrap();
    let text = text.as_str().unwrap().trim_end_matches('=').replace('+', "-").replace('/', "_");
    format!("header.{text}.signature")
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_beyond_the_tokens_own_end() {
    let bench = bench();
    let short = token(NOW_SECS + 20);
    bench.server.set_review(&short, accepted("a-1"));
    assert!(bench.reviewer.who(&short).await.is_ok());
    bench.pass(19).await;
    assert!(bench.reviewer.who(&short).await.is_ok());
    assert_eq!(bench.asked(), 1);
    bench.server.set_reach("s", Reach::Refused);
    bench.pass(1).await;
    unknown(bench.reviewer.who(&short).await);
}

#[test]
fn the_end_of_a_token_is_read_from_its_claims() {
    assert_eq!(expiry(&token(1_700_000_600)), Some(1_700_000_600));
    for odd in ["", "opaque", "a.b", "a.b.c", "a.e30.c", "a.eyJleHAiOi0xfQ.c", "a.====.c", "..."] {
        assert_eq!(expiry(odd), None, "{odd}");
    }
}

proptest! {
    #[test]
    fn whatever_is_shown_as_a_token_can_be_looked_at(text in ".{0,60}\\.[A-Za-z0-9_=-]{0,60}\\..{0,20}") {
        let _ = expiry(&text);
    }
}
