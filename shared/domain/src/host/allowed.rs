//! `allowed-hosts`: which hosts the services of a namespace may claim besides their own names (kpa-behaviour 3.2).
//!
//! Invariant: once anything is written, whoever is not named may claim nothing.

use super::{HOST_BYTES_MAX, is_label, is_name};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Most suffixes in one map.
pub const ALLOWED_MAX: usize = 10_000;
/// Stands for every namespace that is not named, or for every host.
const ALL: &str = "*";

/// Who may claim which hosts. The default is that everybody may claim any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedHosts {
    /// Namespace to suffixes; `None`: no restriction.
    suffixes: Option<BTreeMap<String, Vec<String>>>,
}

impl AllowedHosts {
    /// Nobody may claim anything.
    #[must_use]
    pub const fn none() -> Self {
        Self { suffixes: Some(BTreeMap::new()) }
    }

    /// Whether services of `namespace` may claim `host`, a claim that [`super::check_claim`] let pass.
    ///
    /// # Errors
    /// The suffixes that they may claim instead.
    pub fn check(&self, namespace: &str, host: &str) -> Result<(), &[String]> {
        let Some(suffixes) = &self.suffixes else { return Ok(()) };
        let own = suffixes.get(namespace).or_else(|| suffixes.get(ALL)).map_or(&[][..], Vec::as_slice);
        let name = host.strip_prefix("*.").unwrap_or(host);
        let below = |suffix: &String| {
            suffix == ALL
                || name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if own.iter().any(below) { Ok(()) } else { Err(own) }
    }
}

/// Reads `any`, `none`, or `NAMESPACE=SUFFIX,…` with semicolons or new lines between namespaces; an error is the end of a
/// sentence about the text.
impl FromStr for AllowedHosts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "any" => return Ok(Self::default()),
            "none" => return Ok(Self::none()),
            _ => {}
        }
        let mut suffixes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entry in text.split([';', '\n']).map(str::trim).filter(|entry| !entry.is_empty()) {
            let shown = |text: &str| text.chars().take(HOST_BYTES_MAX).collect::<String>();
            let Some((namespace, list)) = entry.split_once('=') else {
                return Err(format!("has no = in {:?}", shown(entry)));
            };
            let (namespace, mut hosts) = (namespace.trim(), Vec::new());
            if namespace != ALL && !is_label(namespace) {
                return Err(format!("names {:?}, which is no namespace", shown(namespace)));
            }
            for host in list.split(',').map(str::trim).filter(|host| !host.is_empty()) {
                let host = host.to_ascii_lowercase();
                if host != ALL && !is_name(&host) {
                    return Err(format!("gives {namespace} {:?}, which is no host name", shown(&host)));
                }
                hosts.push(host);
            }
            if suffixes.insert(namespace.to_owned(), hosts).is_some() {
                return Err(format!("names {namespace} twice"));
            }
        }
        if suffixes.is_empty() {
            return Err("names no namespace".into());
        }
        if suffixes.values().map(Vec::len).sum::<usize>() > ALLOWED_MAX {
            return Err(format!("has more than {ALLOWED_MAX} suffixes"));
        }
        Ok(Self { suffixes: Some(suffixes) })
    }
}

impl fmt::Display for AllowedHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.suffixes {
            None => f.write_str("any"),
            Some(suffixes) if suffixes.is_empty() => f.write_str("none"),
            Some(suffixes) => {
                for (index, (namespace, hosts)) in suffixes.iter().enumerate() {
                    let before = if index == 0 { "" } else { "; " };
                    write!(f, "{before}{namespace}={}", hosts.join(","))?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_claims_what_lies_below_its_suffixes() {
        let allowed: AllowedHosts = "team-a = a.io, Shared.IO ;team-b=b.io\n*=common.io".parse().unwrap();
        for (namespace, host, may) in [
            ("team-a", "a.io", true),
            ("team-a", "x.y.a.io", true),
            ("team-a", "*.a.io", true),
            ("team-a", "*.io", false),
            ("team-a", "xa.io", false),
            ("team-a", "shared.io", true),
            ("team-a", "common.io", false),
            ("team-b", "a.io", false),
            ("team-b", "b.io", true),
            ("other", "common.io", true),
            ("other", "b.io", false),
        ] {
            assert_eq!(allowed.check(namespace, host).is_ok(), may, "{namespace} {host}");
        }
        assert_eq!(allowed.check("team-b", "a.io"), Err(&["b.io".to_owned()][..]), "told what would be right");
        assert!(AllowedHosts::default().check("x", "any.host").is_ok());
        assert!(AllowedHosts::none().check("x", "any.host").is_err());
        let listed: AllowedHosts = "a=*".parse().unwrap();
        assert!(listed.check("a", "any.host").is_ok() && listed.check("b", "any.host").is_err());
    }

    #[test]
    fn what_is_written_reads_back_and_the_rest_is_refused() {
        for text in ["any", "none", "a=x.io", "*=*", "a=;b=x.io,y.io"] {
            let allowed: AllowedHosts = text.parse().unwrap();
            assert_eq!(allowed.to_string().parse(), Ok(allowed), "{text}");
        }
        let many = format!("a={}", "x.io,".repeat(ALLOWED_MAX + 1));
        for text in ["", " ; ", "a", "=x.io", "A=x.io", "a=x..io", "a=*.x.io", "a=x.io:80", "a=x;a=y", "ä=x", &many] {
            let why = text.parse::<AllowedHosts>().unwrap_err();
            assert!(why.len() < 600, "{why}");
        }
    }
}
