//! What the fuzz targets begin with: all that the tests here know.
//!
//! Invariant: an input means to a fuzz target what it means to the judge.

use crate::input::Input;
use crate::{downgrade, judge, replicas, requests};

/// Connections of clients.
fn client_bytes() -> Vec<Vec<u8>> {
    requests::corpus().into_iter().map(|attack| attack.bytes).chain(downgrade::seeds()).collect()
}

/// Answers of replicas; a character is a byte.
fn replica_bytes() -> Vec<Vec<u8>> {
    let bytes = |text: String| text.chars().map(|char| u8::try_from(u32::from(char)).expect("a byte")).collect();
    replicas::corpus().into_iter().map(|(text, _)| bytes(text)).collect()
}

/// `KPA_WRITE_SEEDS=FOLDER` has them written into `FOLDER/TARGET`; they can be read back in any case.
#[test]
fn are_written() {
    let folder = std::env::var_os("KPA_WRITE_SEEDS");
    for (target, seeds) in [("client_bytes", client_bytes()), ("replica_bytes", replica_bytes())] {
        for (index, bytes) in seeds.iter().enumerate() {
            let cuts = if index % 2 == 0 { vec![] } else { vec![bytes.len() / 2] };
            let input = Input { bytes, cuts, closes: index % 3 == 0 };
            let written = input.write();
            assert_eq!(Input::of(&written), input);
            if let Some(folder) = &folder {
                let folder = std::path::Path::new(folder).join(target);
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join(format!("seed-{index:04}")), written).unwrap();
            }
        }
    }
    assert_eq!(Input::of(b""), Input { bytes: b"", cuts: Vec::new(), closes: false });
    assert_eq!(Input::of(&[0x7f, 0, 1, b'x']), Input { bytes: b"x", cuts: vec![1], closes: false });
}

/// The judge, on inputs that are known: it neither accuses nor overlooks for want of a run.
#[test]
fn are_judged_rightly() {
    let wrong: Vec<_> = client_bytes()
        .iter()
        .enumerate()
        .filter_map(|(index, bytes)| {
            let whole = judge::client_bytes(bytes, &[]);
            // Another place for each, the same in every run.
            let cut = whole.and_then(|()| judge::client_bytes(bytes, &[7 * index, 61 * index]));
            cut.err().map(|why| format!("{:.300?}: {why}", String::from_utf8_lossy(bytes)))
        })
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
