//! What an HTTP request means in the terms of the Kubernetes API: which verb on which resource, with which options.
//!
//! Invariant: reads the URL only; whether the resource exists and who may ask is decided elsewhere.

use crate::refusal::Refusal;
use http::Method;
use serde_json::Value;
use std::collections::BTreeMap;

/// What is asked for, as authorization names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the verbs of the Kubernetes API, by their own names")]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// As it stands in a Role.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The place of a resource in the URL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    /// Empty: all namespaces, or a cluster-wide kind.
    pub(crate) namespace: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

/// What a URL path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Resource(Place),
    /// `/version`, `/apis/apps/v1`, `/healthz`, ...
    Path(String),
}

impl Target {
    pub(crate) fn parse(path: &str) -> Self {
        let other = || Self::Path(path.to_owned());
        let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(unescape).collect();
        let (group, version, rest) = match parts.as_slice() {
            [api, version, rest @ ..] if api == "api" && !rest.is_empty() => (String::new(), version, rest),
            [apis, group, version, rest @ ..] if apis == "apis" && !rest.is_empty() => (group.clone(), version, rest),
            _ => return other(),
        };
        let mut place = Place { group, version: version.clone(), ..Place::default() };
        let rest = match rest {
            // A namespace itself, or one of its subresources.
            [word, _] if word == "namespaces" => rest,
            [word, _, sub] if word == "namespaces" && matches!(sub.as_str(), "status" | "finalize") => rest,
            [word, namespace, inside @ ..] if word == "namespaces" && !inside.is_empty() => {
                place.namespace.clone_from(namespace);
                inside
            }
            _ => rest,
        };
        match rest {
            [resource] => place.resource.clone_from(resource),
            [resource, name] => {
                place.resource.clone_from(resource);
                place.name = Some(name.clone());
            }
            [resource, name, subresource] => {
                place.resource.clone_from(resource);
                place.name = Some(name.clone());
                place.subresource = Some(subresource.clone());
            }
            _ => return other(),
        }
        Self::Resource(place)
    }
}

/// Undoes percent-encoding; what is no valid escape stays as it is.
pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut index) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(index) {
        let escaped = (byte == b'%')
            .then(|| bytes.get(index + 1..index + 3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(decoded) => {
                out.push(decoded);
                index += 3;
            }
            None => {
                out.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The options of a request: its query, and for a deletion also its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (unescape(key), unescape(&value.replace('+', " ")))
                })
                .collect(),
        )
    }

    /// A parameter that is there and not empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// As the real server reads booleans in queries: present without a value is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|value| !matches!(value.to_lowercase().as_str(), "false" | "0"))
    }

    /// A number that is not negative.
    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.get(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            Refusal::bad_request(format!("unable to decode query parameter {key}: {text:?} is not a number >= 0"))
        })
    }

    /// `dryRun=All`; anything else that is not empty is refused.
    pub(crate) fn dry_run(&self) -> Result<bool, Refusal> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                Err(Refusal::bad_request(format!("dryRun: Unsupported value: {other:?}: supported values: \"All\"")))
            }
        }
    }
}

/// Everything about one request that its answer depends on.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) accept: String,
    pub(crate) content_type: String,
    pub(crate) user_agent: String,
    pub(crate) body: bytes::Bytes,
}

impl Call {
    /// What authorization calls this; nothing when the method means nothing here.
    pub(crate) fn verb(&self, place: &Place) -> Option<Verb> {
        let watches = self.query.flag("watch");
        Some(match (self.method.as_str(), place.name.is_some()) {
            ("GET" | "HEAD", _) if watches && place.subresource.is_none() => Verb::Watch,
            ("GET" | "HEAD", true) => Verb::Get,
            ("GET" | "HEAD", false) => Verb::List,
            ("POST", _) => Verb::Create,
            ("PUT", true) => Verb::Update,
            ("PATCH", true) => Verb::Patch,
            ("DELETE", true) => Verb::Delete,
            ("DELETE", false) => Verb::DeleteCollection,
            _ => return None,
        })
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<Value, Refusal> {
        let kind = self.content_type.split(';').next().unwrap_or_default().trim();
        if !matches!(kind, "" | "application/json" | "*/*") {
            return Err(Refusal::unsupported_media(&["application/json"]));
        }
        let value: Value = serde_json::from_slice(&self.body)
            .map_err(|error| Refusal::bad_request(format!("couldn't get version/kind; json parse error: {error}")))?;
        if value.is_object() {
            Ok(value)
        } else {
            Err(Refusal::bad_request("couldn't get version/kind; json parse error: the body is no JSON object"))
        }
    }

    /// Who writes, for managedFields: the parameter, else the program's name in the User-Agent.
    pub(crate) fn manager(&self) -> String {
        let agent = self.user_agent.split('/').next().unwrap_or_default();
        let named = self.query.get("fieldManager").unwrap_or(agent);
        if named.is_empty() { "unknown".to_owned() } else { named.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        match Target::parse(path) {
            Target::Resource(place) => place,
            Target::Path(path) => panic!("{path} names no resource"),
        }
    }

    #[test]
    fn paths_name_resources() {
        let pod = place("/api/v1/namespaces/shop/pods/a/status");
        assert_eq!((pod.group.as_str(), pod.namespace.as_str(), pod.resource.as_str()), ("", "shop", "pods"));
        assert_eq!((pod.name.as_deref(), pod.subresource.as_deref()), (Some("a"), Some("status")));
        let all = place("/apis/apps/v1/deployments");
        assert_eq!((all.group.as_str(), all.namespace.as_str(), all.name), ("apps", "", None));
        let namespace = place("/api/v1/namespaces/shop");
        assert_eq!((namespace.resource.as_str(), namespace.name.as_deref()), ("namespaces", Some("shop")));
        assert_eq!(place("/api/v1/namespaces/shop/finalize").subresource.as_deref(), Some("finalize"));
        assert_eq!(place("/api/v1/namespaces/shop/pods").name, None);
        for path in ["/api", "/api/v1", "/apis/apps/v1", "/version", "/", "/api/v1/namespaces/a/pods/b/c/d"] {
            assert_eq!(Target::parse(path), Target::Path(path.to_owned()));
        }
    }

    #[test]
    fn queries_are_unescaped_and_checked() {
        let query = Query::parse(Some("labelSelector=app%3Da%2Cb&watch=1&limit=x&dryRun=All&a+b=c+d&%zz=1"));
        assert_eq!(query.get("labelSelector"), Some("app=a,b"));
        assert!(query.flag("watch") && !query.flag("allowWatchBookmarks"));
        assert!(query.number("limit").is_err());
        assert_eq!(query.number("resourceVersion"), Ok(None));
        assert_eq!(query.dry_run(), Ok(true));
        assert!(Query::parse(Some("dryRun=None")).dry_run().is_err());
        assert_eq!(query.get("%zz"), Some("1"));
    }
}
