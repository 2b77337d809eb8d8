//! Writes the test corpus as seeds.
fn main() {}
