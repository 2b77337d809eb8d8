//! The pure half of the activator: who goes where, who waits, and what has been counted.
//!
//! Invariant: no clock, no I/O, no logging; time and seeds are arguments, and the same code runs under load, in the
//! simulator and in tests.

pub mod admission;
pub mod affinity;
pub mod balance;
pub mod meter;
pub mod pace;
pub mod part;
pub mod patience;
mod queue;

pub use admission::{Admission, Ask, Class, SeatId, Slot, TicketId, Verdict};
pub use affinity::{SeatKey, Session};
pub use balance::Chooser;
pub use meter::{Area, Meter, Reading};
pub use part::Part;
pub use patience::Warmth;
