//! Label selectors.
//!
//! Invariant: an operator that is not known selects nothing.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

type Labels = BTreeMap<String, String>;

/// Whether a LabelSelector takes these labels; an empty one takes everything.
pub(crate) fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    let equal = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted));
    equal
        && selector.match_expressions.iter().flatten().all(|term| {
            let among = |found: &String| term.values.iter().flatten().any(|wanted| wanted == found);
            match (term.operator.as_str(), value(&term.key)) {
                ("In", Some(found)) => among(found),
                ("NotIn", Some(found)) => !among(found),
                ("NotIn" | "DoesNotExist", None) | ("Exists", Some(_)) => true,
                _ => false,
            }
        })
}

/// Whether a Service's selector takes these labels; an empty one takes nothing.
pub(crate) fn service_selects(selector: &Labels, labels: Option<&Labels>) -> bool {
    !selector.is_empty()
        && selector.iter().all(|(key, wanted)| labels.and_then(|labels| labels.get(key)) == Some(wanted))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    use super::*;

    #[track_caller]
    fn check(key: &str, operator: &str, values: &[&str], wanted: bool) {
        let term = LabelSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
        };
        let selector = LabelSelector { match_expressions: Some(vec![term]), match_labels: None };
        let labels = Labels::from([("app".to_owned(), "a".to_owned())]);
        assert_eq!(selects(&selector, Some(&labels)), wanted, "{key} {operator} {values:?}");
    }

    #[test]
    fn expressions_select_as_published() {
        check("app", "In", &["a", "b"], true);
        check("app", "In", &["b"], false);
        check("other", "In", &["a"], false);
        check("app", "NotIn", &["a"], false);
        check("other", "NotIn", &["a"], true);
        check("app", "Exists", &[], true);
        check("other", "Exists", &[], false);
        check("app", "DoesNotExist", &[], false);
        check("other", "DoesNotExist", &[], true);
        check("app", "Like", &["a"], false);
    }

    #[test]
    fn an_empty_label_selector_takes_all_and_an_empty_service_selector_none() {
        assert!(selects(&LabelSelector::default(), None));
        assert!(!service_selects(&Labels::new(), Some(&Labels::new())));
    }
}
