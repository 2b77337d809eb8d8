//! What a request carries of its session, where its revision asks (`kpa.dev/session-affinity`).
//!
//! Invariant: nothing is copied; what is no cookie is passed over, and the first value counts.

use activator_core::Session;
use domain::SessionAffinity;
use http::header::{COOKIE, HeaderMap};

/// The session of a request with these fields; none when it names none or an empty one.
#[must_use]
pub fn session(affinity: &SessionAffinity, headers: &HeaderMap) -> Option<Session> {
    let value = match affinity {
        SessionAffinity::Header(name) => headers.get(&**name)?.as_bytes(),
        SessionAffinity::Cookie(name) => {
            // Over HTTP/2 there may be a field for each (RFC 9113 section 8.2.3).
            headers.get_all(COOKIE).iter().find_map(|cookies| cookie(cookies.as_bytes(), name.as_bytes()))?
        }
    };
    (!value.is_empty()).then(|| Session::of(value))
}

/// The value of the cookie called `name` (RFC 6265 section 4.2.1).
fn cookie<'a>(cookies: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    cookies.split(|byte| *byte == b';').find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"=")?;
        Some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HeaderName;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn one_cookie_among_several() {
        let affinity = SessionAffinity::Cookie("sid".into());
        let expected = Some(Session::of(b"42"));
        for cookies in ["sid=42", "a=1; sid=42; b=2", "a=1;sid=42", " sid=42 ;x", "xsid=1; SID=2; sid2=3; sid=42"] {
            assert_eq!(session(&affinity, &headers(&[("cookie", cookies)])), expected, "{cookies}");
        }
        assert_eq!(session(&affinity, &headers(&[("cookie", "a=1"), ("cookie", "sid=42")])), expected);
        assert_eq!(session(&affinity, &headers(&[("cookie", "sid=a=b")])), Some(Session::of(b"a=b")));
        for cookies in ["", ";", "sid", "sid=", "sid =42", "a=sid=42", "a=1, sid=42"] {
            assert_eq!(session(&affinity, &headers(&[("cookie", cookies)])), None, "{cookies}");
        }
        assert_eq!(session(&affinity, &headers(&[("sid", "42")])), None);
    }

    #[test]
    fn one_field() {
        let affinity: SessionAffinity = "header=X-Session-Id".parse().unwrap();
        assert_eq!(session(&affinity, &headers(&[("x-session-id", "42")])), Some(Session::of(b"42")));
        let twice = headers(&[("x-session-id", "42"), ("x-session-id", "43")]);
        assert_eq!(session(&affinity, &twice), Some(Session::of(b"42")), "the first");
        assert_eq!(session(&affinity, &headers(&[("x-session-id", "")])), None);
        assert_eq!(session(&affinity, &headers(&[("cookie", "x-session-id=42")])), None);
    }
}
