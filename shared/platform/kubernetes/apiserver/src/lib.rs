//! A Kubernetes API server in memory, for tests: the same answers as the real one to the calls that are made of it.
//!
//! Invariant: shares no code with any client, and refuses what it does not know instead of guessing.
//!
//! ```
//! use apiserver::{Options, Server};
//! use http::{Method, StatusCode};
//! use serde_json::json;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let server = Server::new(Options::default());
//! let object = json!({ "metadata": { "name": "a" }, "data": { "k": "v" } });
//! let (status, made) = server.request(&Method::POST, "/api/v1/namespaces/default/configmaps", Some(&object));
//! assert_eq!(status, StatusCode::CREATED);
//! assert_eq!(made["data"]["k"], "v");
//! # });
//! ```
//!
//! A [`Server`] is a `tower::Service`, so `kube::Client::new(server.clone(), "default")` talks to it without a socket and
//! on tokio's paused clock; [`Server::serve`] puts it on a listener.

//!
//! # What it does not do
//!
//! Protobuf is not spoken, so `kubectl create deployment` and its like do not work, while everything that sends JSON
//! (`get`, `describe`, `apply --validate=false`, `scale`, `patch`, `annotate`, `label`, `wait`, `delete`) does. An apply is
//! read as JSON only. There is no OpenAPI document, no conversion between versions of a custom kind but its apiVersion, and
//! no admission: validating policies are stored and not evaluated, and neither are patterns and CEL rules of schemas. Who
//! may write roles may write any role. Controllers are not part of the server: nothing makes pods of a Deployment.

mod accounts;
mod apply;
mod bootstrap;
pub mod controllers;
mod crd;
mod defaults;
mod discovery;
mod dispatch;
mod faults;
mod fields;
mod form;
mod managed;
mod object;
mod patch;
mod rbac;
mod refusal;
mod request;
mod resources;
mod selector;
mod serve;
mod server;
mod state;
mod store;
mod table;
mod validate;
mod verbs;
mod watch;

pub use faults::{Asked, Faults, LOG_MAX, Logged, Matching, Reply};
pub use rbac::{Grant, Permission};
pub use request::Verb;
pub use serve::CONNECTIONS_MAX;
pub use server::{BODY_BYTES_MAX, Body, Broken, Options, Server, WithoutToken};
