//! Clients whose certificates were revoked.

use crate::pki::{Authority, Pair, Visitor};
use crate::rig::{Backend, Rig};
use crate::wire::{GET, Wire, eventually, ok};
use activator::Settings;
use activator::bounds::Bounds;
use activator::tls::fault::{Fault, Reload};
use activator::tls::files::{Followed, FollowedServer, PairFiles, ServerFiles};
use domain::Limits;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use std::path::Path;
use std::sync::Arc;

/// An activator whose files are followed by the test.
struct World {
    authority: Authority,
    rig: Rig,
    _backend: Backend,
    followed: FollowedServer,
    /// Of the files; the rig makes its own.
    bounds: Arc<Bounds>,
}

impl World {
    /// Clients show a certificate that leads to `roots` and is not on `lists`.
    async fn new(folder: &Path, roots: &str, lists: &str) -> Self {
        let authority = Authority::named("front");
        let pair = authority.sign(&["svc.default"]);
        let file = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).unwrap();
            folder.join(name)
        };
        let files = ServerFiles {
            pairs: vec![PairFiles { certificate: file("crt", &pair.certificate), key: file("key", &pair.key) }],
            client_roots: Some(file("roots", roots)),
            client_revoked: Some(file("lists", lists)),
        };
        let bounds = Arc::<Bounds>::default();
        let followed = FollowedServer::new(files.load().await.unwrap(), Arc::clone(&bounds));
        let backend = Backend::new(|_| ok("hello")).await;
        let server = Arc::clone(followed.server());
        let rig = Rig::secured(Settings::default(), Limits::default(), &[backend.address], server).await;
        Self { authority, rig, _backend: backend, followed, bounds }
    }

    /// Whether who shows `pair` gets an answer, in both versions of TLS alike. Who gets none is counted as revoked.
    async fn lets_in(&self, pair: &Pair) -> bool {
        const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];
        let revoked = || self.rig.bounds().tls.clients(Fault::Revoked);
        let before = revoked();
        let mut answers = 0;
        for versions in VERSIONS {
            let visitor = Visitor { versions, shows: Some(pair.clone()), ..Visitor::default() };
            // With TLS 1.3 the client's side of the handshake is over before the server has seen the certificate.
            let Ok(stream) = visitor.visit(&self.authority, self.rig.secure[0]).await else { continue };
            let mut client = Wire::over(stream);
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, GET.as_bytes()).await;
            answers += u64::from(client.maybe_answer().await.is_some());
        }
        assert!([0, 2].contains(&answers), "{answers}");
        eventually("counted", || revoked() == before + 2 - answers).await;
        answers == 2
    }
}

#[tokio::test]
async fn who_is_on_the_list_is_refused_from_the_moment_that_it_is_read() {
    let (guests, folder) = (Authority::named("guests"), tempfile::tempdir().unwrap());
    let [one, two] = [(); 2].map(|()| guests.sign(&["guest"]));
    let mut world = World::new(folder.path(), &guests.pem, &guests.list(&[&one])).await;
    assert!(!world.lets_in(&one).await);
    assert!(world.lets_in(&two).await);

    let visitor = Visitor { shows: Some(two.clone()), ..Visitor::default() };
    let mut open = visitor.wire(&world.authority, world.rig.secure[0]).await;
    assert_eq!(open.ask(GET).await.status(), 200);
    std::fs::write(folder.path().join("lists"), guests.list(&[&two])).unwrap();
    world.followed.look().await;
    assert!(world.lets_in(&one).await);
    assert!(!world.lets_in(&two).await);
    assert_eq!(open.ask(GET).await.status(), 200, "an open connection goes on");

    // An empty file is no list of nothing.
    for (times, broken) in (1..).zip(["", "-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n"]) {
        std::fs::write(folder.path().join("lists"), broken).unwrap();
        world.followed.look().await;
        assert!(!world.lets_in(&two).await);
        assert_eq!(Reload::ALL.map(|reload| world.bounds.tls.reloads(reload)), [1, times]);
    }
}

/// Otherwise a list that is forgotten would let everybody in.
#[tokio::test]
async fn an_authority_without_a_list_of_its_own_lets_nobody_in() {
    let [guests, friends, impostor] = ["guests", "friends", "friends"].map(Authority::named);
    let folder = tempfile::tempdir().unwrap();
    let roots = [guests.pem.as_str(), &friends.pem].concat();
    let [guest, friend] = [guests.sign(&["guest"]), friends.sign(&["friend"])];
    let mut world = World::new(folder.path(), &roots, &guests.list(&[])).await;
    assert!(world.lets_in(&guest).await);
    assert!(!world.lets_in(&friend).await);
    for (list, expected) in [(impostor.list(&[]), false), (friends.list(&[]), true)] {
        std::fs::write(folder.path().join("lists"), [guests.list(&[]), list].concat()).unwrap();
        world.followed.look().await;
        assert!(world.lets_in(&guest).await);
        assert_eq!(world.lets_in(&friend).await, expected);
    }
}
