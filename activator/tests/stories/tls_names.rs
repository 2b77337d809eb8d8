//! Several certificates, chosen by the name that a client asks for.

use crate::pki::{Authority, Pair, Visitor};
use crate::rig::{Backend, Rig};
use crate::wire::{GET, ok};
use activator::Settings;
use activator::bounds::Bounds;
use activator::tls::fault::Reload;
use activator::tls::files::{Followed, FollowedServer, PairFiles, ServerFiles};
use domain::Limits;
use rustls::pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

fn put(folder: &Path, name: &str, pair: &Pair) -> PairFiles {
    let files = PairFiles {
        certificate: folder.join(name).with_extension("crt"),
        key: folder.join(name).with_extension("key"),
    };
    std::fs::write(&files.certificate, &pair.certificate).unwrap();
    std::fs::write(&files.key, &pair.key).unwrap();
    files
}

/// What somebody is shown who asks for `name`, whether it is for that name or not.
async fn shown(authority: &Authority, to: SocketAddr, name: &'static str) -> io::Result<Vec<CertificateDer<'static>>> {
    let visitor = Visitor { asks_for: name, ..Visitor::default() };
    let mut client = visitor.visit(authority, to).await.map(crate::wire::Wire::over)?;
    assert_eq!(client.ask(GET).await.status(), 200);
    Ok(client.stream.get_ref().1.peer_certificates().unwrap().to_vec())
}

#[tokio::test]
async fn the_name_chooses_and_each_certificate_is_renewed_on_its_own() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let [first, second, third] = [
        authority.until(&["svc.default", "other.default"], 2093),
        authority.until(&["*.example.com"], 2091),
        authority.until(&["special.example.com", "SVC.default"], 2092),
    ];
    let files = ServerFiles {
        pairs: vec![
            put(folder.path(), "first", &first),
            put(folder.path(), "second", &second),
            put(folder.path(), "third", &third),
        ],
        client_roots: None,
        client_revoked: None,
    };
    // The rig makes its own counts, so the files get others.
    let bounds = Arc::<Bounds>::default();
    let mut followed = FollowedServer::new(files.load().await.unwrap(), Arc::clone(&bounds));
    let backend = Backend::new(|_| ok("hello")).await;
    let server = Arc::clone(followed.server());
    let rig = Rig::secured(Settings::default(), Limits::default(), &[backend.address], server).await;
    let to = rig.secure[0];
    for (name, expected) in [
        ("svc.default", &first),
        ("other.default", &first),
        ("a.example.com", &second),
        ("A.EXAMPLE.com", &second),
        ("special.example.com", &third),
    ] {
        assert_eq!(shown(&authority, to, name).await.unwrap(), expected.chain(), "{name}");
    }
    // The first, which is for neither: so the client says, who checks it.
    for name in ["example.com", "a.b.example.com", "10.0.0.1"] {
        let error = shown(&authority, to, name).await.unwrap_err();
        assert!(error.to_string().contains("not valid for name"), "{name}: {error}");
        assert!(error.to_string().contains("other.default"), "the first: {error}");
    }

    let ends_in_2091 = bounds.tls.not_after().unwrap();
    let renewed = authority.until(&["*.example.com"], 2094);
    put(folder.path(), "second", &renewed);
    followed.look().await;
    assert_eq!(shown(&authority, to, "a.example.com").await.unwrap(), renewed.chain());
    assert_eq!(shown(&authority, to, "svc.default").await.unwrap(), first.chain());
    assert_eq!(bounds.tls.not_after(), Some(ends_in_2091 + 365 * 86_400), "the next that ends");

    // One that is wrong keeps all as they were.
    put(folder.path(), "third", &Pair { key: first.key.clone(), ..third.clone() });
    put(folder.path(), "first", &authority.sign(&["svc.default"]));
    followed.look().await;
    assert_eq!(shown(&authority, to, "svc.default").await.unwrap(), first.chain());
    assert_eq!(Reload::ALL.map(|reload| bounds.tls.reloads(reload)), [1, 1]);
}

#[tokio::test]
async fn what_is_wrong_is_said_of_the_file_that_it_is_in() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let [one, two] = ["one", "two"].map(|name| put(folder.path(), name, &authority.sign(&[name])));
    let files = ServerFiles { pairs: vec![one, two], client_roots: None, client_revoked: None };
    std::fs::write(folder.path().join("two.key"), "nothing").unwrap();
    let error = files.clone().load().await.map(drop).unwrap_err().to_string();
    let two = folder.path().join("two.key");
    assert!(error.starts_with(&format!("{}: the key cannot be used", two.display())), "{error}");
    std::fs::write(two, authority.sign(&["two"]).key).unwrap();
    let error = files.load().await.map(drop).unwrap_err().to_string();
    assert!(error.contains("two.key: certificate and key do not belong together") && !error.contains("one"), "{error}");
}
