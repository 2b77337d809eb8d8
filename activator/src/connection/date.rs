//! The Date field (RFC 9110 section 6.6.1), written anew once a second.
//!
//! Invariant: nobody formats a date for each answer.

use http::HeaderValue;
use std::cell::RefCell;
use std::time::UNIX_EPOCH;

thread_local! {
    static NOW: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
}

/// What stands in it now.
pub(super) fn date() -> HeaderValue {
    with(HeaderValue::clone)
}

/// Hands what stands in it to `f`.
pub(super) fn with<T>(f: impl FnOnce(&HeaderValue) -> T) -> T {
    let now = runtime::clock::wall();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    NOW.with_borrow_mut(|(written, value)| {
        if *written != second || value.is_empty() {
            *written = second;
            *value = HeaderValue::try_from(httpdate::fmt_http_date(now)).unwrap_or(HeaderValue::from_static(""));
        }
        f(value)
    })
}
