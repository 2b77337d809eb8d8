//! What a client of HTTP/2 may send and may not, frame by frame.
//!
//! Invariant: the client writes its bytes by hand, so that it can say what no library would; whoever keeps to the rules is
//! served beside it, over both versions of HTTP.

#![cfg(test)]

mod case;
mod floods;
mod frames;
mod headers;
mod hpack;
mod kinds;
mod limits;
#[path = "../stories/rig.rs"]
#[expect(dead_code, reason = "the stories use all of it")]
mod rig;
mod stalls;
mod streams;
#[path = "../stories/wire.rs"]
#[expect(dead_code, reason = "the stories use all of it")]
mod wire;
