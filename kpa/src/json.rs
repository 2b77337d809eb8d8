//! JSON with its order kept: a decision reads in the order of its steps.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Number;
use std::fmt;

/// Any JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Flag(bool),
    Number(Number),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    /// The same for people: a moment or span that is written as seconds and nanoseconds becomes `62.000s`.
    pub(crate) fn readable(self) -> Self {
        match self {
            Self::Object(fields) => match span(&fields) {
                Some(span) => Self::Text(span),
                None => {
                    Self::Object(fields.into_iter().map(|(name, value)| (name, value.readable())).collect::<Vec<_>>())
                }
            },
            Self::List(items) => Self::List(items.into_iter().map(Self::readable).collect()),
            scalar @ (Self::Null | Self::Flag(_) | Self::Number(_) | Self::Text(_)) => scalar,
        }
    }
}

fn span(fields: &[(String, Json)]) -> Option<String> {
    match fields {
        [(secs, Json::Number(whole)), (nanos, Json::Number(part))] if secs == "secs" && nanos == "nanos" => {
            Some(format!("{}.{:03}s", whole.as_u64()?, part.as_u64()? / 1_000_000))
        }
        _ => None,
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(field) = fields.next_entry()? {
            object.push(field);
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn order_survives_and_times_become_readable() {
        let text = r#"{"z":1,"a":[null,true,-2,0.5,"x"],"at":{"secs":62,"nanos":5000000},"m":{}}"#;
        let json: Json = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), text);
        let readable = serde_json::to_string(&json.readable()).unwrap();
        assert_eq!(readable, r#"{"z":1,"a":[null,true,-2,0.5,"x"],"at":"62.005s","m":{}}"#);
    }

    fn values() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i32>().prop_map(|number| Value::from(f64::from(number) / 64.0)),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,4}|secs|nanos", inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever an autoscaler may say in a later version is shown as it was said.
        #[test]
        fn nothing_is_lost(value in values()) {
            let json: Json = serde_json::from_str(&value.to_string()).unwrap();
            let back: Value = serde_json::from_str(&serde_json::to_string(&json).unwrap()).unwrap();
            let said: Value = serde_json::from_str(&value.to_string()).unwrap();
            prop_assert_eq!(back, said);
            let readable = json.readable();
            prop_assert_eq!(readable.clone().readable(), readable);
        }
    }
}
