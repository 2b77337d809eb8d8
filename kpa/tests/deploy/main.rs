//! What a cluster's administrator installs: that kustomize, the chart and the documents say the same, and that it holds together.
//!
//! Invariant: needs no cluster. What needs `kubectl` or `helm` runs where they are, and says aloud where they are not.

#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]

mod chart;
mod crd;
mod examples;
mod image;
mod objects;
mod pods;
mod render;
mod rights;
mod tools;
