//! Request smuggling: nothing that two readers could understand differently passes the activator, in either direction.
//!
//! Invariant: what a replica is sent is read by a strict reader of this test's own, which shares nothing with the product.

#![cfg(test)]

mod judge;
mod strict;
mod world;

#[test]
fn tmp() {
    judge::client_bytes(b"GET /x HTTP/1.1\r\nhost: svc.default\r\n\r\n", &[]).unwrap();
    judge::replica_bytes(b"HTTP/1.1 200 OK\r\n\r\nhi", &[4], true).unwrap();
}
