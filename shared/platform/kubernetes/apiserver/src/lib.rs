//! A Kubernetes API server in memory, for tests: the same answers as the real one to the calls that are made of it.
//!
//! Invariant: shares no code with any client, and refuses what it does not know instead of guessing.
