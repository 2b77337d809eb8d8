//! Requests of one session at one replica (`kpa.dev/session-affinity`).

use crate::h2;
use crate::rig::{Backend, Rig, limits, set, svc};
use crate::sharing::{Two, is_of};
use crate::wire::{Wire, eventually, ok};
use activator::Settings;
use domain::{Change, EndpointId, Limits, Protocol};
use runtime::net::Tcp;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The replica that answered, by its place in the list.
type Place = usize;

/// Replicas that say which they are; `/hold` is answered when `go` says so.
struct Replicas {
    all: Vec<Backend>,
    go: Arc<Semaphore>,
}

impl Replicas {
    async fn new(count: usize) -> Self {
        let go = Arc::new(Semaphore::new(0));
        let mut all = Vec::new();
        for place in 0..count {
            let go = Arc::clone(&go);
            let script = move |mut wire: Wire, _, backend: Backend| {
                let go = Arc::clone(&go);
                async move {
                    while let Some(request) = wire.request().await {
                        let holds = request.target() == "/hold";
                        backend.note(request);
                        if holds {
                            go.acquire().await.unwrap().forget();
                        }
                        wire.send(ok(&place.to_string())).await;
                    }
                }
            };
            all.push(Backend::script(script).await);
        }
        Self { all, go }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.all.iter().map(|backend| backend.address).collect()
    }

    fn id(&self, place: Place) -> EndpointId {
        EndpointId::new(&self.all[place].address.to_string())
    }

    fn seen(&self) -> usize {
        self.all.iter().map(Backend::count).sum()
    }
}

fn by(affinity: &str, cc: u32) -> Limits {
    let affinity = affinity.parse().unwrap();
    limits(|limits| {
        limits.session_affinity = set(Some(affinity));
        limits.container_concurrency = set(NonZeroU32::new(cc));
    })
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: svc.default\r\n{fields}\r\n")
}

fn of(session: usize) -> String {
    format!("X-Session-Id: user-{session}\r\n")
}

async fn place(client: &mut Wire, fields: &str) -> Place {
    let answer = client.ask(get("/", fields)).await;
    assert_eq!(answer.status(), 200);
    answer.text().parse().unwrap()
}

fn strayed(rig: &Rig) -> u64 {
    let mut text = String::new();
    activator::metrics::render(rig.activator.revisions(), runtime::Clock::start(), &mut text);
    let line = text.lines().find(|line| line.starts_with("activator_sessions_strayed_total{")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn every_worker_of_every_activator_sends_a_session_to_the_same_replica() {
    for cc in [0, 5] {
        let replicas = Replicas::new(4).await;
        let mut addresses = replicas.addresses();
        let mut clients = Vec::new();
        let mut rigs = Vec::new();
        for workers in [1, 3] {
            let rig = Rig::bare(Settings::default(), workers, Tcp).await;
            rig.apply(&svc(), by("header=X-Session-Id", cc)).await;
            rig.tell(Change::Synced).await;
            rig.replicas(&addresses).await;
            for address in &rig.addresses {
                clients.push(Wire::connect(*address).await);
            }
            // The next one learns of them in another order.
            addresses.reverse();
            rigs.push(rig);
        }
        let mut places = BTreeSet::new();
        for session in 0..30 {
            let first = place(&mut clients[0], &of(session)).await;
            for client in &mut clients {
                for _ in 0..2 {
                    assert_eq!(place(client, &of(session)).await, first, "session {session}, limit {cc}");
                }
            }
            places.insert(first);
        }
        assert_eq!(places.len(), 4, "all of them have sessions");
        // Who belongs to no session takes turns.
        let mut turns = BTreeSet::new();
        for _ in 0..4 {
            turns.insert(place(&mut clients[0], "x-session: user-1\r\n").await);
        }
        assert_eq!(turns.len(), 4);
        for rig in rigs {
            rig.at_rest().await;
            assert_eq!(strayed(&rig), 0);
        }
    }
}

#[tokio::test]
async fn a_cookie_among_others_names_the_session() {
    let replicas = Replicas::new(4).await;
    let limits = Limits { protocol: set(Protocol::Http1), ..by("cookie=sid", 0) };
    let rig = Rig::new(limits, &replicas.addresses()).await;
    let mut client = rig.client().await;
    let (mut h2, _tasks) = h2::client(rig.addresses[0]).await;
    let mut places = BTreeSet::new();
    for session in 0..20 {
        let first = place(&mut client, &format!("cookie: sid={session}\r\n")).await;
        for cookies in [format!("cookie: a=1; sid={session}; b=x"), format!("Cookie: sid2=7;sid={session}")] {
            assert_eq!(place(&mut client, &format!("{cookies}\r\n")).await, first);
        }
        // HTTP/2 may have a field for each cookie.
        let mut request = h2::request("GET", "/", h2::full(""));
        for cookie in ["a=1".to_owned(), format!("sid={session}")] {
            request.headers_mut().append("cookie", cookie.parse().unwrap());
        }
        assert_eq!(h2::ask(&mut h2, request).await.status(), 200);
        let last = &replicas.all[first].last();
        assert!(last.all("cookie").join("; ").ends_with(&format!("sid={session}")), "{last:?}");
        places.insert(first);
    }
    assert_eq!(places.len(), 4);
    drop(h2);
    rig.at_rest().await;
}

/// A client with a request of `session` that its replica, or another, does not answer yet.
async fn holds(rig: &Rig, replicas: &Replicas, session: usize) -> Wire {
    let mut client = rig.client().await;
    let before = replicas.seen();
    client.send(get("/hold", &of(session))).await;
    eventually("a replica has it", || replicas.seen() == before + 1).await;
    client
}

#[tokio::test]
async fn a_full_replica_is_passed_over_and_used_again() {
    let replicas = Replicas::new(3).await;
    let rig = Rig::new(by("header=X-Session-Id", 1), &replicas.addresses()).await;
    let mut client = rig.client().await;
    let home = place(&mut client, &of(1)).await;
    let mut first = holds(&rig, &replicas, 1).await;
    assert_eq!(replicas.all[home].last().target(), "/hold");
    for _ in 0..3 {
        assert_ne!(place(&mut client, &of(1)).await, home, "it does not wait while others have room");
    }
    assert_eq!(strayed(&rig), 3);
    replicas.go.add_permits(1);
    assert_eq!(first.answer().await.text(), home.to_string());
    assert_eq!(place(&mut client, &of(1)).await, home);
    assert_eq!(strayed(&rig), 3);

    // All are full: who waits takes whatever is free first.
    let mut held = vec![holds(&rig, &replicas, 1).await, holds(&rig, &replicas, 1).await];
    held.push(holds(&rig, &replicas, 1).await);
    client.send(get("/", &of(1))).await;
    eventually("it waits", || rig.waiting() == 1).await;
    replicas.go.add_permits(1);
    assert_eq!(client.answer().await.status(), 200);
    replicas.go.add_permits(2);
    for mut client in held {
        assert_eq!(client.answer().await.status(), 200);
    }
    rig.at_rest().await;
}

#[tokio::test]
async fn without_a_limit_a_crowd_is_spread() {
    let replicas = Replicas::new(4).await;
    let rig = Rig::new(by("header=X-Session-Id", 0), &replicas.addresses()).await;
    let mut client = rig.client().await;
    let home = place(&mut client, &of(1)).await;
    let before = replicas.all[home].count();
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(holds(&rig, &replicas, 1).await);
    }
    let of_home = replicas.all[home].count() - before;
    assert!((8..=9).contains(&of_home), "{of_home} of 16: twice the mean at most, and 8 in any case");
    assert_eq!(strayed(&rig), 16 - of_home as u64);
    replicas.go.add_permits(16);
    for mut client in held {
        assert_eq!(client.answer().await.status(), 200);
    }
    assert_eq!(place(&mut client, &of(1)).await, home);
    rig.at_rest().await;
}

#[tokio::test]
async fn a_draining_or_suspect_replica_has_its_sessions_back() {
    for cc in [0, 5] {
        let replicas = Replicas::new(4).await;
        let rig = Rig::new(by("header=X-Session-Id", cc), &replicas.addresses()).await;
        let mut client = rig.client().await;
        let mut homes = Vec::new();
        for session in 0..20 {
            homes.push(place(&mut client, &of(session)).await);
        }
        let gone = homes[0];
        let now = rig.activator.workers()[0].base.clock.now();
        let gate = &rig.handle().gate;
        for (leave, come) in [(true, false), (false, true)] {
            let set = |away: bool| {
                if leave {
                    gate.set_drain(now, away.then(|| replicas.id(gone)).into_iter().collect());
                }
                if come {
                    gate.set_suspect(now, &replicas.id(gone), away);
                }
            };
            set(true);
            let before = replicas.all[gone].count();
            for (session, home) in homes.iter().enumerate() {
                let meanwhile = place(&mut client, &of(session)).await;
                assert_eq!(meanwhile == *home, *home != gone, "only its own sessions move");
                assert_eq!(place(&mut client, &of(session)).await, meanwhile, "and they stay where they are");
            }
            assert_eq!(replicas.all[gone].count(), before);
            set(false);
            for (session, home) in homes.iter().enumerate() {
                assert_eq!(place(&mut client, &of(session)).await, *home);
            }
        }
        assert_eq!(strayed(&rig), 0);
        rig.at_rest().await;
    }
}

/// Where replicas of limited concurrency are divided among activators, each sends a session to one of its own, always the
/// same; and to the other activator's only while its own are full.
#[tokio::test]
async fn activators_that_divide_the_replicas_have_one_each_for_a_session() {
    let two = Two::new().await;
    let replicas = loop {
        let replicas = Replicas::new(6).await;
        let of_a = replicas.addresses().into_iter().filter(|address| is_of("a", *address)).count();
        if (2..=4).contains(&of_a) {
            break replicas;
        }
    };
    for rig in [&two.a, &two.b] {
        rig.apply(&svc(), by("header=X-Session-Id", 1)).await;
        eventually("it goes by sessions", || rig.handle().gate.limits().session_affinity.is_some()).await;
    }
    two.replicas(&replicas.addresses()).await;
    for (name, rig) in [("a", &two.a), ("b", &two.b)] {
        let mut client = rig.client().await;
        let mut places = BTreeSet::new();
        for session in 0..20 {
            let first = place(&mut client, &of(session)).await;
            assert!(is_of(name, replicas.all[first].address));
            assert_eq!(place(&mut client, &of(session)).await, first);
            places.insert(first);
        }
        let own = replicas.addresses().into_iter().filter(|address| is_of(name, *address)).count();
        assert_eq!((places.len(), strayed(rig)), (own, 0), "all of its own, and no other");
    }
    let own = replicas.addresses().into_iter().filter(|address| is_of("a", *address)).count();
    let mut held = Vec::new();
    for _ in 0..own {
        held.push(holds(&two.a, &replicas, 1).await);
    }
    let mut client = two.a.client().await;
    let lent = place(&mut client, &of(1)).await;
    assert!(is_of("b", replicas.all[lent].address), "its own are full");
    replicas.go.add_permits(own);
    for mut client in held {
        assert_eq!(client.answer().await.status(), 200);
    }
    two.at_rest().await;
}
