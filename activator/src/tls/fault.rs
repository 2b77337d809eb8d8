//! Why TLS came to nothing, in a closed list of words, and how often.
//!
//! Invariant: every failure of a handshake is counted once, under exactly one word.

use rustls::{AlertDescription, CertificateError, Error};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Fault {
    /// It took too long.
    Timeout,
    /// The other side hung up.
    Closed,
    /// What came is no TLS: plain HTTP, most likely.
    NotTls,
    /// No version or cipher in common.
    Incompatible,
    /// No protocol in common (ALPN).
    Alpn,
    /// No certificate was shown where one is required.
    NoCertificate,
    /// The certificate leads to none of the roots that are trusted.
    Untrusted,
    /// The certificate is another name's.
    WrongName,
    /// The certificate's time is over, or has not begun.
    Expired,
    /// The certificate was revoked, as the list of its authority says, or there is no list that could say so.
    Revoked,
    /// The other side refused, most likely our certificate.
    Alert,
    /// There are no roots that a replica's certificate could lead to.
    NoRoots,
    /// Anything else.
    Other,
}

impl Fault {
    /// How many there are.
    pub const COUNT: usize = 13;

    /// Every word, by index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Timeout,
        Self::Closed,
        Self::NotTls,
        Self::Incompatible,
        Self::Alpn,
        Self::NoCertificate,
        Self::Untrusted,
        Self::WrongName,
        Self::Expired,
        Self::Revoked,
        Self::Alert,
        Self::NoRoots,
        Self::Other,
    ];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::NotTls => "not_tls",
            Self::Incompatible => "incompatible",
            Self::Alpn => "alpn",
            Self::NoCertificate => "no_certificate",
            Self::Untrusted => "untrusted",
            Self::WrongName => "wrong_name",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Alert => "alert",
            Self::NoRoots => "no_roots",
            Self::Other => "other",
        }
    }

    /// What it says of a replica, in a sentence.
    #[must_use]
    pub const fn of_replica(self) -> &'static str {
        match self {
            Self::Timeout => "the handshake took longer than kpa.dev/connect-timeout",
            Self::Closed => "the replica hung up in the handshake",
            Self::NotTls => "the replica does not speak TLS",
            Self::Incompatible => "the replica has no TLS version or cipher in common with us (1.2 and 1.3)",
            Self::Alpn => "the replica does not agree to the protocol (ALPN h2 or http/1.1)",
            Self::NoCertificate => "the replica shows no certificate",
            Self::Untrusted => "the replica's certificate does not lead to the roots (kpa.dev/backend-ca)",
            Self::WrongName => "the replica's certificate is not for the expected name (kpa.dev/backend-server-name)",
            Self::Expired => "the replica's certificate has expired or is not valid yet",
            Self::Revoked => "the replica's certificate was revoked",
            Self::Alert => "the replica refused the handshake",
            Self::NoRoots => "no roots are given that its certificate could lead to (kpa.dev/backend-ca)",
            Self::Other => "the handshake failed",
        }
    }

    /// Which one a handshake ended with.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => Self::of_rustls(error),
            // Whatever the system says of a connection, it is over.
            None => Self::Closed,
        }
    }

    fn of_rustls(error: &Error) -> Self {
        if let Error::InvalidCertificate(certificate) = error {
            return Self::of_certificate(certificate);
        }
        if let Error::AlertReceived(alert) = error {
            return Self::of_alert(*alert);
        }
        if matches!(error, Error::InvalidCertRevocationList(_)) {
            // A list by its authority's name that the authority has not signed, or may not sign.
            return Self::Revoked;
        }
        if matches!(error, Error::NoCertificatesPresented) {
            Self::NoCertificate
        } else if matches!(error, Error::NoApplicationProtocol) {
            Self::Alpn
        } else if matches!(error, Error::PeerIncompatible(_)) {
            Self::Incompatible
        } else if matches!(error, Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) {
            Self::NotTls
        } else {
            Self::Other
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        use CertificateError as E;
        if matches!(error, E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. }) {
            Self::Expired
        } else if matches!(error, E::NotValidForName | E::NotValidForNameContext { .. }) {
            Self::WrongName
        } else if matches!(error, E::Revoked | E::UnknownRevocationStatus) {
            Self::Revoked
        } else {
            Self::Untrusted
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        if alert == AlertDescription::NoApplicationProtocol {
            Self::Alpn
        } else if alert == AlertDescription::ProtocolVersion || alert == AlertDescription::HandshakeFailure {
            Self::Incompatible
        } else {
            Self::Alert
        }
    }
}

/// What became of files that were read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Reload {
    /// They are in force.
    Taken,
    /// The last good ones stay in force.
    Refused,
}

impl Reload {
    /// Both, by index.
    pub const ALL: [Self; 2] = [Self::Taken, Self::Refused];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Refused => "refused",
        }
    }
}

/// The counts of one process.
#[derive(Debug, Default)]
pub struct Counts {
    clients: [AtomicU64; Fault::COUNT],
    replicas: [AtomicU64; Fault::COUNT],
    reloads: [AtomicU64; 2],
    /// Seconds since 1970; 0 where there is no certificate.
    not_after: AtomicU64,
}

impl Counts {
    /// A client's handshake failed.
    pub fn client_failed(&self, fault: Fault) {
        self.clients[fault as usize].fetch_add(1, Relaxed);
    }

    /// Clients' handshakes that failed so.
    #[must_use]
    pub fn clients(&self, fault: Fault) -> u64 {
        self.clients[fault as usize].load(Relaxed)
    }

    /// A handshake with a replica failed.
    pub fn replica_failed(&self, fault: Fault) {
        self.replicas[fault as usize].fetch_add(1, Relaxed);
    }

    /// Handshakes with replicas that failed so.
    #[must_use]
    pub fn replicas(&self, fault: Fault) -> u64 {
        self.replicas[fault as usize].load(Relaxed)
    }

    /// Changed files were read.
    pub fn reloaded(&self, reload: Reload) {
        self.reloads[reload as usize].fetch_add(1, Relaxed);
    }

    /// How often that was so.
    #[must_use]
    pub fn reloads(&self, reload: Reload) -> u64 {
        self.reloads[reload as usize].load(Relaxed)
    }

    /// The certificate in force is valid until then, in seconds since 1970.
    pub fn set_not_after(&self, seconds: u64) {
        self.not_after.store(seconds, Relaxed);
    }

    /// Until when the certificate in force is valid, in seconds since 1970; `None` where clients have no TLS.
    #[must_use]
    pub fn not_after(&self) -> Option<u64> {
        Some(self.not_after.load(Relaxed)).filter(|seconds| *seconds > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_where_their_index_says_and_differ() {
        let mut labels = std::collections::BTreeSet::new();
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, index);
            assert!(labels.insert(fault.label()));
        }
    }

    #[test]
    fn errors_have_words() {
        let tls = |error: Error| io::Error::new(io::ErrorKind::InvalidData, error);
        for (error, fault) in [
            (io::ErrorKind::UnexpectedEof.into(), Fault::Closed),
            (io::ErrorKind::ConnectionReset.into(), Fault::Closed),
            (tls(Error::NoCertificatesPresented), Fault::NoCertificate),
            (tls(Error::InvalidCertificate(CertificateError::UnknownIssuer)), Fault::Untrusted),
            (tls(Error::InvalidCertificate(CertificateError::Expired)), Fault::Expired),
            (tls(Error::InvalidCertificate(CertificateError::NotValidForName)), Fault::WrongName),
            (tls(Error::NoApplicationProtocol), Fault::Alpn),
            (tls(Error::AlertReceived(AlertDescription::NoApplicationProtocol)), Fault::Alpn),
            (tls(Error::AlertReceived(AlertDescription::UnknownCA)), Fault::Alert),
            (tls(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)), Fault::NotTls),
            (tls(Error::General("x".into())), Fault::Other),
        ] {
            assert_eq!(Fault::of(&error), fault, "{error}");
        }
    }
}
