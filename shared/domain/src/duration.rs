//! Durations in Go's grammar, which is what the annotations and `config-autoscaler` are written in.
//!
//! Invariant: whatever [`format()`] or [`short`] writes, [`parse`] reads back as the same duration.

use std::fmt::Write as _;
use std::time::Duration;

/// The longest duration Go can hold (2⁶³ − 1 nanoseconds, about 292 years).
pub const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);

/// Why a text is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadDuration {
    /// Not of the form `<number><unit>…`.
    #[error("is not a duration")]
    Syntax,
    /// A number stands alone.
    #[error("has no unit")]
    NoUnit,
    /// The unit is none of Go's; there is no `d`.
    #[error("has an unknown unit")]
    UnknownUnit,
    /// Longer than [`LONGEST`].
    #[error("is longer than 292 years")]
    TooLong,
    /// Below zero where that makes no sense.
    #[error("is negative")]
    Negative,
}

/// A duration with its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// Below zero.
    pub negative: bool,
    /// Its size.
    pub size: Duration,
}

/// Reads a duration that may not be negative (`-0s` is zero and passes).
///
/// # Errors
/// Everything that [`parse_signed`] refuses, and [`BadDuration::Negative`].
pub fn parse(text: &str) -> Result<Duration, BadDuration> {
    let signed = parse_signed(text)?;
    if signed.negative && !signed.size.is_zero() { Err(BadDuration::Negative) } else { Ok(signed.size) }
}

/// Reads a duration as Go's `time.ParseDuration` does: an optional sign, then one or more `<decimal><unit>` with the
/// units `ns`, `us` (or `µs`), `ms`, `s`, `m`, `h`; a bare `0` is allowed, any other bare number is not.
///
/// # Errors
/// When the text is not of that form or does not fit.
pub fn parse_signed(text: &str) -> Result<Signed, BadDuration> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if unsigned == "0" {
        return Ok(Signed { negative, size: Duration::ZERO });
    }
    if unsigned.is_empty() {
        return Err(BadDuration::Syntax);
    }
    let mut total: u128 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let (nanos, after) = component(rest)?;
        total = total.saturating_add(nanos);
        rest = after;
    }
    match u64::try_from(total) {
        Ok(nanos) if Duration::from_nanos(nanos) <= LONGEST => {
            Ok(Signed { negative, size: Duration::from_nanos(nanos) })
        }
        _ => Err(BadDuration::TooLong),
    }
}

/// One `<decimal><unit>` at the start of `text`, in nanoseconds, and what follows it.
fn component(text: &str) -> Result<(u128, &str), BadDuration> {
    let number = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !number(c)).unwrap_or(text.len());
    let (decimal, rest) = text.split_at(end);
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(BadDuration::Syntax);
    }
    let unit_end = rest.find(number).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let unit: u128 = match unit {
        "ns" => 1,
        // U+00B5 (micro sign) and U+03BC (Greek mu), as Go.
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" => return Err(BadDuration::NoUnit),
        _ => return Err(BadDuration::UnknownUnit),
    };
    let whole: u128 = match whole {
        "" => 0,
        digits => digits.parse().map_err(|_| BadDuration::TooLong)?,
    };
    // Beyond 18 digits a fraction is below a nanosecond whatever the unit.
    let digits = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(u32::try_from(digits.len()).unwrap_or(18));
    let part: u128 = digits.parse().unwrap_or(0);
    Ok((whole.saturating_mul(unit).saturating_add(part * unit / scale), rest))
}

/// Writes a duration as Go's `Duration.String` does: `1h0m0s`, `1.5s`, `100ms`, `0s`.
#[must_use]
pub fn format(span: Duration) -> String {
    let nanos = span.as_nanos();
    match nanos {
        0 => return "0s".into(),
        1..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => return format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => return format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {}
    }
    let (minutes, seconds) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
    let mut out = String::new();
    // Writing to a String cannot fail.
    if minutes >= 60 {
        let _ = write!(out, "{}h", minutes / 60);
    }
    if minutes > 0 {
        let _ = write!(out, "{}m", minutes % 60);
    }
    let _ = write!(out, "{}s", decimal(seconds, 1_000_000_000));
    out
}

/// As [`format()`], without units that say nothing: `1h`, `1m30s`.
#[must_use]
pub fn short(span: Duration) -> String {
    let mut text = format(span);
    if text.ends_with("m0s") {
        text.truncate(text.len() - 2);
    }
    if text.ends_with("h0m") {
        text.truncate(text.len() - 2);
    }
    text
}

/// `value / unit` with as many decimals as it has.
fn decimal(value: u128, unit: u128) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let text = format!("{whole}.{rest:0width$}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("-0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("5.s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1m30s", 90_000_000_000),
            ("1h1m1s1ms1us1ns", 3_661_001_001_001),
            ("12µs", 12_000),
            ("12μs", 12_000),
            ("0.100000000000000000000h", 360_000_000_000),
            ("0.830103483285477580700h", 2_988_372_539_827),
            ("9223372036854775807ns", i64::MAX as u64),
            ("60000ms", 60_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for (text, why) in [
            ("", BadDuration::Syntax),
            ("-", BadDuration::Syntax),
            ("s", BadDuration::Syntax),
            (".s", BadDuration::Syntax),
            ("1..5s", BadDuration::Syntax),
            ("+-5s", BadDuration::Syntax),
            (" 5s", BadDuration::Syntax),
            ("60", BadDuration::NoUnit),
            ("1.5", BadDuration::NoUnit),
            ("1d", BadDuration::UnknownUnit),
            ("5s ", BadDuration::UnknownUnit),
            ("5S", BadDuration::UnknownUnit),
            ("9223372036854775808ns", BadDuration::TooLong),
            ("99999999999999999999999999999999999999999h", BadDuration::TooLong),
            ("3000000h", BadDuration::TooLong),
            ("-1s", BadDuration::Negative),
        ] {
            assert_eq!(parse(text), Err(why), "{text:?}");
        }
        assert_eq!(parse_signed("-1s"), Ok(Signed { negative: true, size: Duration::from_secs(1) }));
    }

    #[test]
    fn writes_what_go_writes() {
        for (millis, long, brief) in [
            (0, "0s", "0s"),
            (1, "1ms", "1ms"),
            (1_500, "1.5s", "1.5s"),
            (60_000, "1m0s", "1m"),
            (90_000, "1m30s", "1m30s"),
            (600_000, "10m0s", "10m"),
            (1_800_000, "30m0s", "30m"),
            (3_600_000, "1h0m0s", "1h"),
            (36_000_000, "10h0m0s", "10h"),
            (3_601_000, "1h0m1s", "1h0m1s"),
        ] {
            assert_eq!(format(Duration::from_millis(millis)), long);
            assert_eq!(short(Duration::from_millis(millis)), brief);
        }
        assert_eq!(format(Duration::from_nanos(1_500)), "1.5µs");
    }

    proptest! {
        #[test]
        fn written_and_read_back(nanos in 0..=i64::MAX as u64) {
            let span = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(span)), Ok(span));
            prop_assert_eq!(parse(&short(span)), Ok(span));
        }

        #[test]
        fn reading_never_panics(text in "\\PC{0,20}", digits in "[-+0-9.nuµmsh]{0,30}") {
            let _ = parse(&text);
            let _ = parse_signed(&digits);
        }
    }
}
