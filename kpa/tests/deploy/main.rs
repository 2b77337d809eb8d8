//! What a cluster's administrator installs: that kustomize, the chart and the documents say the same, and that it holds together.
//!
//! Invariant: needs no cluster. What needs `kubectl` or `helm` runs where they are, and says aloud where they are not.

mod chart;
mod examples;
mod image;
mod objects;
mod pods;
mod render;
mod rights;
mod tools;
