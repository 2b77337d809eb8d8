//! The way to a replica: connections, one exchange on one of them, and tunnels.

pub mod connection;
pub mod exchange;
pub mod h2;
pub mod head;
pub mod pool;
pub mod tunnel;
