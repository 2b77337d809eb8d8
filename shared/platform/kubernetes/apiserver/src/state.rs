//! Everything that the server knows, under one lock, and what one request may do with it.
//!
//! Invariant: time, identity and randomness come from outside or from the seed, so equal requests make equal states.

use crate::object;
use crate::refusal::Refusal;
use crate::request::{Call, Query};
use crate::resources::{Type, Types};
use crate::store::Store;
use crate::{accounts, crd};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::sync::Arc;

/// Letters of generated names, as Kubernetes chooses them: no vowels, so no words.
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many of them are appended to a `generateName`.
const NAME_SUFFIX: usize = 5;
/// Most bytes of a generated name's base.
const NAME_BASE_BYTES_MAX: usize = 58;
/// Service addresses: 10.96.0.0/16.
const SERVICE_ADDRESSES: u32 = 65_534;

/// The state of the server.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) types: Types,
    pub(crate) store: Store,
    pub(crate) random: StdRng,
    pub(crate) accounts: accounts::Accounts,
    last_address: u32,
}

/// What a request brings besides the object: who asks, when, and how.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) now: Timestamp,
    pub(crate) user: accounts::User,
    pub(crate) manager: String,
    pub(crate) dry_run: bool,
    pub(crate) strict: bool,
}

impl Ask {
    pub(crate) fn new(call: &Call, user: accounts::User, now: Timestamp) -> Result<Self, Refusal> {
        Ok(Self { now, user, manager: call.manager(), dry_run: call.query.dry_run()?, strict: is_strict(&call.query)? })
    }

    /// The time as it stands in objects.
    pub(crate) fn time(&self) -> String {
        rfc3339(self.now)
    }
}

fn is_strict(query: &Query) -> Result<bool, Refusal> {
    match query.get("fieldValidation") {
        None | Some("Ignore" | "Warn") => Ok(false),
        Some("Strict") => Ok(true),
        Some(other) => Err(Refusal::bad_request(format!(
            "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Warn\", \"Strict\""
        ))),
    }
}

/// Whole seconds, as Kubernetes writes times.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    jiff::fmt::strtime::format("%Y-%m-%dT%H:%M:%SZ", time).unwrap_or_default()
}

impl State {
    pub(crate) fn new(seed: u64, history_max: usize, now: Timestamp) -> Self {
        let mut state = Self {
            types: Types::builtin(),
            store: Store::new(history_max),
            random: StdRng::seed_from_u64(seed),
            accounts: accounts::Accounts::default(),
            last_address: 1,
        };
        let ask = Ask {
            now,
            user: accounts::User::administrator(),
            manager: "kube-apiserver".to_owned(),
            dry_run: false,
            strict: true,
        };
        for (group, plural, object) in crate::bootstrap::objects() {
            let kind = state.types.of_resource(group, plural).expect("a built-in kind");
            let namespace = object::namespace(&object).to_owned();
            let made = crate::verbs::write::create(&mut state, &ask, &kind, &namespace, object);
            made.unwrap_or_else(|refusal| panic!("a built-in object of {plural}: {}", refusal.message));
        }
        state
    }

    /// A random identity in the form of a UUID of version 4.
    pub(crate) fn uid(&mut self) -> String {
        let bits: u128 = self.random.random();
        let bits = bits & !(0xf << 76) & !(0b11 << 62) | 0x4 << 76 | 0b10 << 62;
        let hex = format!("{bits:032x}");
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    /// A name from its base, as `generateName` asks for it.
    pub(crate) fn generated_name(&mut self, base: &str) -> String {
        let end = base.floor_char_boundary(NAME_BASE_BYTES_MAX);
        let mut letter = || char::from(NAME_LETTERS[self.random.random_range(0..NAME_LETTERS.len())]);
        let suffix: String = (0..NAME_SUFFIX).map(|_| letter()).collect();
        format!("{}{suffix}", &base[..end])
    }

    /// The next free cluster address.
    pub(crate) fn cluster_address(&mut self) -> Result<String, Refusal> {
        for _ in 0..SERVICE_ADDRESSES {
            self.last_address = self.last_address % SERVICE_ADDRESSES + 1;
            let text = format!("10.96.{}.{}", self.last_address >> 8, self.last_address & 255);
            if !self.store.all("/services").any(|service| service["spec"]["clusterIP"] == text.as_str()) {
                return Ok(text);
            }
        }
        Err(Refusal::new(
            http::StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "failed to allocate a serviceIP: range is full",
        ))
    }

    /// Follows a write of a definition: its kinds are served, or no longer.
    pub(crate) fn definition_changed(&mut self, definition: &Value, is_there: bool) {
        let text = |path: &str| object::at(definition, path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let kinds = if is_there { crd::types(definition) } else { Vec::new() };
        self.types.register(&text("spec.group"), &text("spec.names.plural"), kinds);
    }

    /// The namespace that an object is to be written to must be there, and to stay.
    pub(crate) fn check_namespace(&self, kind: &Type, namespace: &str, name: &str) -> Result<(), Refusal> {
        if !kind.namespaced {
            return Ok(());
        }
        let Some(found) = self.store.get("/namespaces", "", namespace) else {
            let kind = self.types.of_resource("", "namespaces").expect("a built-in kind");
            return Err(Refusal::not_found(&kind, namespace));
        };
        if object::is_terminating(found) {
            let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
            let mut refusal = Refusal::forbidden(kind, name, why);
            refusal.details["causes"] = json!([{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {namespace} is being terminated"),
                "field": "metadata.namespace",
            }]);
            return Err(refusal);
        }
        Ok(())
    }

    /// The object, or that there is none.
    pub(crate) fn get(&self, kind: &Type, namespace: &str, name: &str) -> Result<Arc<Value>, Refusal> {
        self.store.get(&kind.bucket, namespace, name).cloned().ok_or_else(|| Refusal::not_found(kind, name))
    }
}
