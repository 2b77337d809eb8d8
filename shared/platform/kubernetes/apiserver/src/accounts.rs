//! Who asks: bearer tokens of service accounts, and the administrator.
//!
//! Invariant: a token is valid only if this server issued it, until it expires, while its account and pod exist.

use crate::object;
use crate::refusal::Refusal;
use crate::state::State;
use crate::store::Store;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Most tokens that are remembered; the oldest are forgotten first.
pub(crate) const TOKENS_MAX: usize = 4096;
/// The audience of a token that names none, and of the API itself.
pub(crate) const OWN_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// An identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) extra: BTreeMap<String, String>,
}

impl User {
    fn of_groups(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            uid: String::new(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            extra: BTreeMap::new(),
        }
    }

    /// Who may do everything.
    pub(crate) fn administrator() -> Self {
        Self::of_groups("kubernetes-admin", &["system:masters", "system:authenticated"])
    }

    /// Who says nothing of himself, where the options make of that nobody.
    pub(crate) fn anonymous() -> Self {
        Self::of_groups("system:anonymous", &["system:unauthenticated"])
    }

    /// Somebody whom the administrator speaks for.
    pub(crate) fn impersonated(name: &str, groups: &[String]) -> Self {
        let mut user = Self::of_groups(name, &["system:authenticated"]);
        user.groups.extend(groups.iter().cloned());
        let mut parts = name.strip_prefix("system:serviceaccount:").unwrap_or_default().split(':');
        if let (Some(namespace), Some(_)) = (parts.next().filter(|part| !part.is_empty()), parts.next()) {
            user.groups.insert("system:serviceaccounts".to_owned());
            user.groups.insert(format!("system:serviceaccounts:{namespace}"));
        }
        user
    }

    fn service_account(token: &Token) -> Self {
        let mut user = Self::impersonated(&account_name(&token.namespace, &token.name), &[]);
        user.uid.clone_from(&token.uid);
        user.extra.insert("authentication.kubernetes.io/credential-id".to_owned(), format!("JTI={}", token.id));
        if let Some((kind, name, uid)) = &token.bound
            && kind == "Pod"
        {
            user.extra.insert("authentication.kubernetes.io/pod-name".to_owned(), name.clone());
            user.extra.insert("authentication.kubernetes.io/pod-uid".to_owned(), uid.clone());
        }
        user
    }
}

/// The user name of a service account.
pub(crate) fn account_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// What is known of an issued token.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) expires: Timestamp,
    /// Kind, name and uid of the object that the token lives and dies with.
    pub(crate) bound: Option<(String, String, String)>,
}

/// Every token.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    tokens: BTreeMap<String, Token>,
    order: std::collections::VecDeque<String>,
}

impl State {
    /// Issues a token for an account that exists. Its text says nothing: only this server can read it.
    pub(crate) fn issue(
        &mut self,
        (namespace, name): (&str, &str),
        audiences: Vec<String>,
        lifetime: SignedDuration,
        bound: Option<(String, String, String)>,
        now: Timestamp,
    ) -> Result<(String, Token), Refusal> {
        let kind = self.types.of_resource("", "serviceaccounts").expect("a built-in kind");
        let account = self.get(&kind, namespace, name)?;
        let id = self.uid();
        let text = format!("kpa-test.{}.{}", id, self.uid());
        let token = Token {
            id,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: object::meta(&account, "uid").to_owned(),
            audiences: if audiences.is_empty() { vec![OWN_AUDIENCE.to_owned()] } else { audiences },
            expires: now.saturating_add(lifetime).unwrap_or(Timestamp::MAX),
            bound,
        };
        self.accounts.tokens.insert(text.clone(), token.clone());
        self.accounts.order.push_back(text.clone());
        while self.accounts.order.len() > TOKENS_MAX {
            if let Some(oldest) = self.accounts.order.pop_front() {
                self.accounts.tokens.remove(&oldest);
            }
        }
        Ok((text, token))
    }
}

impl Accounts {
    /// Whose token it is, and for which of the wanted audiences; or why it is nobody's.
    pub(crate) fn review(
        &self,
        store: &Store,
        text: &str,
        wanted: &[String],
        now: Timestamp,
    ) -> Result<(User, Vec<String>), String> {
        let token = self.tokens.get(text).ok_or_else(|| "invalid bearer token".to_owned())?;
        if token.expires <= now {
            return Err("[invalid bearer token, service account token has expired]".to_owned());
        }
        let exists = |bucket: &str, name: &str, uid: &str| {
            store.get(bucket, &token.namespace, name).is_some_and(|object| object::meta(object, "uid") == uid)
        };
        if !exists("/serviceaccounts", &token.name, &token.uid) {
            return Err("[invalid bearer token, service account has been deleted]".to_owned());
        }
        if let Some((kind, name, uid)) = &token.bound {
            let bucket = if kind == "Pod" { "/pods" } else { "/secrets" };
            if !exists(bucket, name, uid) {
                return Err("[invalid bearer token, service account token has been invalidated]".to_owned());
            }
        }
        let own = [OWN_AUDIENCE.to_owned()];
        let wanted = if wanted.is_empty() { own.as_slice() } else { wanted };
        let fitting: Vec<String> = wanted.iter().filter(|one| token.audiences.contains(one)).cloned().collect();
        if fitting.is_empty() {
            return Err(format!(
                "[invalid bearer token, token audiences {:?} is invalid for the target audiences {wanted:?}]",
                token.audiences
            ));
        }
        Ok((User::service_account(token), fitting))
    }
}
