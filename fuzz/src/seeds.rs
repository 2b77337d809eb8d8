//! Writes what the tests of smuggling know as a corpus to begin with: `seeds client_bytes|replica_bytes FOLDER`.
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../../activator/tests/smuggling/downgrade.rs"]
mod downgrade;
#[path = "../../activator/tests/smuggling/input.rs"]
mod input;
#[path = "../../activator/tests/smuggling/judge.rs"]
mod judge;
#[path = "../../activator/tests/smuggling/replicas.rs"]
mod replicas;
#[path = "../../activator/tests/smuggling/requests.rs"]
mod requests;
#[path = "../../activator/tests/smuggling/strict.rs"]
mod strict;
#[path = "../../activator/tests/smuggling/world.rs"]
mod world;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (target, folder) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let inputs: Vec<Vec<u8>> = if target == "replica_bytes" {
        replicas::corpus().into_iter().map(|(text, _)| text.chars().map(|char| char as u8).collect()).collect()
    } else {
        requests::corpus().into_iter().map(|attack| attack.bytes).chain(downgrade::seeds()).collect()
    };
    for (index, bytes) in inputs.iter().enumerate() {
        let cuts = if index % 2 == 0 { vec![] } else { vec![bytes.len() / 2] };
        let input = input::Input { bytes, cuts, closes: index % 3 == 0 };
        std::fs::write(format!("{folder}/seed-{index:04}"), input.write())?;
    }
    Ok(())
}
