//! How our own programs know each other: what a reporter shows, and whom an autoscaler hears (kpa-behaviour 7.3).
//!
//! Invariant: a secret is never printed, and who cannot be told apart from a stranger is treated as one.

use futures_core::future::BoxFuture;
use std::fmt;
use std::sync::Arc;

/// A secret that is shown as `Authorization: Bearer …`. Clones share it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// The secret itself.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    /// Whether `shown` is the secret, in a time that does not depend on how much of it is right.
    #[must_use]
    pub fn is(&self, shown: &[u8]) -> bool {
        let secret = self.0.as_bytes();
        let different = secret.iter().zip(shown).fold(0, |bits, (a, b)| bits | (a ^ b));
        secret.len() == shown.len() && different == 0
    }

    /// The secret, for the one place that shows it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Where the token comes from that is shown now.
pub trait Shows: fmt::Debug + Send + Sync + 'static {
    /// The token to show with the next frame; `None` when none is known. Called for each frame: must not block.
    fn token(&self) -> Option<Token>;
}

/// What a reporter shows.
#[derive(Debug, Clone, Default)]
pub enum Shown {
    /// Nothing.
    #[default]
    Nothing,
    /// The same for as long as the process lives.
    Fixed(Token),
    /// Whatever is right at the moment.
    Fresh(Arc<dyn Shows>),
}

impl Shown {
    /// The token to show now.
    #[must_use]
    pub fn now(&self) -> Option<Token> {
        match self {
            Self::Nothing => None,
            Self::Fixed(token) => Some(token.clone()),
            Self::Fresh(source) => source.token(),
        }
    }
}

/// The account of a workload on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Who showed a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose token it is.
    pub account: ServiceAccount,
    /// The pod that it was made for, if it was made for one.
    pub pod: Option<String>,
}

/// Why it is not known who showed a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The token is wrong, has ended, or is not meant for us.
    #[error("{0}")]
    Refused(String),
    /// Nobody could be asked; the next frame may be luckier.
    #[error("{0}")]
    Unknown(String),
}

/// Who can tell whose a token is.
pub trait Identifies: fmt::Debug + Send + Sync + 'static {
    /// Whose `token` is.
    fn who<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Caller, Doubt>>;
}

/// Whom an autoscaler hears.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Everybody who reaches the listener.
    #[default]
    Everyone,
    /// Those who know this secret.
    Secret(Token),
    /// Pods of one account that the platform lists as activators, each of them for itself: a reporter is named after its
    /// pod.
    Pods {
        /// Who can tell whose a token is.
        identifies: Arc<dyn Identifies>,
        /// The account of the activators.
        account: ServiceAccount,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_compared_whole_and_never_printed() {
        let token = Token::new("secret");
        for (shown, right) in [("secret", true), ("secre", false), ("secret1", false), ("secreT", false), ("", false)] {
            assert_eq!(token.is(shown.as_bytes()), right, "{shown}");
        }
        assert_eq!(format!("{:?}", Trust::Secret(token.clone())), "Secret(Token(***))");
        assert_eq!(format!("{:?}", Shown::Fixed(token)), "Fixed(Token(***))");
    }
}
