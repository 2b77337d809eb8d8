//! Any bytes as a client's connection.
#![no_main]

#[path = "../../activator/tests/smuggling/input.rs"]
mod input;
#[path = "../../activator/tests/smuggling/judge.rs"]
mod judge;
#[path = "../../activator/tests/smuggling/strict.rs"]
mod strict;
#[path = "../../activator/tests/smuggling/world.rs"]
mod world;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let input = input::Input::of(data);
    if let Err(why) = judge::client_bytes(input.bytes, &input.cuts) {
        panic!("{why}");
    }
});
