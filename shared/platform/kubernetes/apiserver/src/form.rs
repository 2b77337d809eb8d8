//! The forms in which objects are answered: whole, metadata only, or as a table for people.
//!
//! Invariant: a form that is not known is not acceptable (406), unless the client also takes plain JSON.

use crate::refusal::Refusal;
use crate::resources::Type;
use crate::table;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// How a client wants its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `Table`, with what of each object in its rows.
    Table(Include),
}

/// `includeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    /// Nothing.
    None,
    /// Metadata, the default.
    Metadata,
    /// All of it.
    Object,
}

impl Form {
    /// Reads `Accept` and the query's `includeObject`. The first form that is known is taken.
    pub(crate) fn read(accept: &str, include: Option<&str>) -> Result<Self, Refusal> {
        let include = match include {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            Some(other) => return Err(Refusal::bad_request(format!("includeObject: unknown value {other:?}"))),
        };
        for entry in accept.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let mut parts = entry.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            if !matches!(media, "application/json" | "*/*" | "application/*") {
                continue;
            }
            let (mut shape, mut version) = ("", "v1");
            for part in parts {
                match part.split_once('=') {
                    Some(("as", value)) => shape = value,
                    Some(("v", value)) => version = value,
                    _ => {}
                }
            }
            match (shape, version) {
                ("", _) => return Ok(Self::Whole),
                ("Table", "v1") => return Ok(Self::Table(include)),
                ("PartialObjectMetadata" | "PartialObjectMetadataList", "v1") => return Ok(Self::Metadata),
                _ => {}
            }
        }
        if accept.trim().is_empty() {
            return Ok(Self::Whole);
        }
        let message = "only the following media types are accepted: application/json";
        Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message))
    }

    /// One object.
    pub(crate) fn one(self, kind: &Type, stored: &Value, now: Timestamp, with_columns: bool) -> Value {
        match self {
            Self::Whole => kind.outward(stored),
            Self::Metadata => partial(stored),
            Self::Table(include) => {
                let metadata = json!({ "resourceVersion": stored["metadata"]["resourceVersion"] });
                table::of(kind, &[Arc::new(stored.clone())], &metadata, include, now, with_columns)
            }
        }
    }

    /// A list.
    pub(crate) fn many(self, kind: &Type, items: &[Arc<Value>], metadata: &Value, now: Timestamp) -> Value {
        match self {
            Self::Whole => {
                let items: Vec<Value> = items
                    .iter()
                    .map(|item| {
                        let mut item = kind.outward(item);
                        // Items of built-in lists carry no kind, those of custom ones do.
                        if !kind.is_custom() {
                            let map = crate::object::as_map(&mut item);
                            map.remove("kind");
                            map.remove("apiVersion");
                        }
                        item
                    })
                    .collect();
                json!({ "kind": kind.list_kind, "apiVersion": kind.api_version(), "metadata": metadata, "items": items })
            }
            Self::Metadata => {
                let items: Vec<Value> = items.iter().map(|item| partial(item)).collect();
                json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata, "items": items,
                })
            }
            Self::Table(include) => table::of(kind, items, metadata, include, now, true),
        }
    }

    /// A bookmark, which holds little more than a version.
    pub(crate) fn bookmark(self, bookmark: Value) -> Value {
        match self {
            Self::Whole => bookmark,
            Self::Metadata => partial(&bookmark),
            Self::Table(_) => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": bookmark["metadata"],
                "columnDefinitions": null, "rows": [],
            }),
        }
    }
}

/// The metadata of an object under the name that it then has.
pub(crate) fn partial(object: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_form_is_taken() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(Form::read(kubectl, Some("Object")).ok(), Some(Form::Table(Include::Object)));
        assert_eq!(Form::read("application/json;as=New;v=v1,application/json", None).ok(), Some(Form::Whole));
        let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(Form::read(partial, None).ok(), Some(Form::Metadata));
        assert_eq!(Form::read("", None).ok(), Some(Form::Whole));
        assert_eq!(Form::read("*/*", None).ok(), Some(Form::Whole));
        let protobuf = Form::read("application/vnd.kubernetes.protobuf", None).expect_err("not spoken");
        assert_eq!(protobuf.code, StatusCode::NOT_ACCEPTABLE);
    }
}
