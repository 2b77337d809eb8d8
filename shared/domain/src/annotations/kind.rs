//! What a key's value may be: its form and its range, checked and described from the same data.
//!
//! Invariant: a number that is not finite never passes, and no value outside its range does.

use crate::duration::{self, BadDuration};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The form and range of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A whole number.
    Whole {
        /// Smallest.
        min: u32,
        /// Largest.
        max: u32,
    },
    /// A number, decimal or in Go's hexadecimal form.
    Number(Range),
    /// −1, or a number of at least 0.
    Burst,
    /// A duration in Go's grammar.
    Span {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
        /// No fractions of a second.
        whole_seconds: bool,
    },
    /// `off` or `0`, or a duration.
    SpanOrOff {
        /// Longest.
        max: Duration,
    },
    /// A boolean, as Go's `ParseBool` reads it.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// The name of an autoscaler class.
    Class,
    /// Comma-separated host names, `*.` allowed in front.
    Hosts,
    /// Free text that means this.
    Text(&'static str),
}

/// A range of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The lower end.
    pub low: f64,
    /// Whether the lower end itself is outside.
    pub above_low: bool,
    /// The upper end, inside.
    pub high: f64,
}

impl Range {
    /// From `low` to `high`, both inside.
    #[must_use]
    pub const fn between(low: f64, high: f64) -> Self {
        Self { low, above_low: false, high }
    }

    /// `low` or more.
    #[must_use]
    pub const fn at_least(low: f64) -> Self {
        Self { low, above_low: false, high: f64::MAX }
    }

    /// More than `low`.
    #[must_use]
    pub const fn above(low: f64) -> Self {
        Self { low, above_low: true, high: f64::MAX }
    }

    fn holds(self, value: f64) -> bool {
        (if self.above_low { value > self.low } else { value >= self.low }) && value <= self.high
    }
}

/// Why a text is no value of a kind: `"two" is not a whole number`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

impl Refused {
    fn new(text: &str, why: impl fmt::Display) -> Self {
        Self(format!("{} {why}", quoted(text)))
    }
}

/// `text` in quotation marks, cut where it gets long.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    let mut start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    format!("{start:?}")
}

impl Kind {
    /// Reads a whole number: base 10, an optional sign, nothing else.
    ///
    /// # Errors
    /// When it is none, or out of range.
    pub fn whole(&self, text: &str) -> Result<u32, Refused> {
        let Self::Whole { min, max } = *self else { return Err(self.misused(text)) };
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Refused::new(text, "is not a whole number"));
        }
        match text.parse::<i64>() {
            Ok(value) => match u32::try_from(value) {
                Ok(value) if (min..=max).contains(&value) => Ok(value),
                _ => Err(Refused::new(text, "is out of range")),
            },
            Err(_) => Err(Refused::new(text, "is out of range")),
        }
    }

    /// Reads a finite number.
    ///
    /// # Errors
    /// When it is none, is not finite, or is out of range.
    pub fn number(&self, text: &str) -> Result<f64, Refused> {
        let value = parse_number(text).ok_or_else(|| Refused::new(text, "is not a number"))?;
        if !value.is_finite() {
            return Err(Refused::new(text, "is not a finite number"));
        }
        let holds = match self {
            Self::Number(range) => range.holds(value),
            #[expect(clippy::float_cmp, reason = "exactly -1 means: always in the path")]
            Self::Burst => value >= 0.0 || value == -1.0,
            Self::Whole { .. }
            | Self::Span { .. }
            | Self::SpanOrOff { .. }
            | Self::Flag
            | Self::Word(_)
            | Self::Class
            | Self::Hosts
            | Self::Text(_) => return Err(self.misused(text)),
        };
        if holds { Ok(value) } else { Err(Refused::new(text, "is out of range")) }
    }

    /// Reads a duration.
    ///
    /// # Errors
    /// When it is none, or out of range.
    pub fn span(&self, text: &str) -> Result<Duration, Refused> {
        let Self::Span { min, max, whole_seconds } = *self else { return Err(self.misused(text)) };
        let span = duration::parse(text).map_err(|why| refused_span(text, why))?;
        if span < min || span > max {
            Err(Refused::new(text, "is out of range"))
        } else if whole_seconds && span.subsec_nanos() != 0 {
            Err(Refused::new(text, "is not in whole seconds"))
        } else {
            Ok(span)
        }
    }

    /// Reads a duration that may be switched off.
    ///
    /// # Errors
    /// When it is neither a duration nor `off`, or out of range.
    pub fn span_or_off(&self, text: &str) -> Result<Option<Duration>, Refused> {
        let Self::SpanOrOff { max } = *self else { return Err(self.misused(text)) };
        if text == "off" {
            return Ok(None);
        }
        let span = duration::parse(text).map_err(|why| refused_span(text, why))?;
        if span > max {
            return Err(Refused::new(text, "is out of range"));
        }
        Ok((!span.is_zero()).then_some(span))
    }

    /// Reads a boolean.
    ///
    /// # Errors
    /// When it is none of Go's.
    pub fn flag(&self, text: &str) -> Result<bool, Refused> {
        match text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            _ => Err(Refused::new(text, "is not a boolean")),
        }
    }

    /// Reads one of the words.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn word<T: FromStr>(&self, text: &str) -> Result<T, Refused> {
        text.parse().map_err(|_| Refused::new(text, "is none of the words"))
    }

    /// Reads one of the words of the table.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn listed(&self, text: &str) -> Result<String, Refused> {
        match self {
            Self::Word(words) if words.contains(&text) => Ok(text.to_owned()),
            Self::Word(_) => Err(Refused::new(text, "is none of the words")),
            Self::Whole { .. }
            | Self::Number(_)
            | Self::Burst
            | Self::Span { .. }
            | Self::SpanOrOff { .. }
            | Self::Flag
            | Self::Class
            | Self::Hosts
            | Self::Text(_) => Err(self.misused(text)),
        }
    }

    /// Reads text that is not blank.
    ///
    /// # Errors
    /// When it is blank.
    pub fn text(&self, text: &str) -> Result<String, Refused> {
        if text.trim().is_empty() { Err(Refused::new(text, "is empty")) } else { Ok(text.trim().to_owned()) }
    }

    fn misused(&self, text: &str) -> Refused {
        Refused::new(text, format_args!("is not {self}"))
    }
}

fn refused_span(text: &str, why: BadDuration) -> Refused {
    match why {
        BadDuration::UnknownUnit if text.ends_with('d') => {
            Refused::new(text, format_args!("{why}; a day is written 24h"))
        }
        BadDuration::NoUnit if text.len() <= 20 => {
            Refused::new(text, format_args!("{why}; seconds are written {text}s"))
        }
        BadDuration::Syntax
        | BadDuration::NoUnit
        | BadDuration::UnknownUnit
        | BadDuration::TooLong
        | BadDuration::Negative => Refused::new(text, why),
    }
}

/// Go's `ParseFloat`: decimal with exponent, hexadecimal with a `p` exponent (underscores allowed there), infinities
/// and NaN.
fn parse_number(text: &str) -> Option<f64> {
    let (sign, unsigned) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    match unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        Some(hex) => Some(sign * parse_hex(hex)?),
        None if unsigned.starts_with(['+', '-']) => None,
        None => Some(sign * unsigned.parse::<f64>().ok()?),
    }
}

/// The part of a hexadecimal number behind `0x`. At most 13 significant digits, which is what a float holds exactly.
fn parse_hex(hex: &str) -> Option<f64> {
    let hex = hex.replace('_', "");
    let (mantissa, exponent) = hex.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 13 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let exponent: i32 = exponent.parse().ok()?;
    let shift = exponent.checked_sub(4 * i32::try_from(fraction.len()).ok()?)?;
    #[expect(clippy::cast_precision_loss, reason = "13 hexadecimal digits are 52 bits")]
    let value = u64::from_str_radix(&digits, 16).ok()? as f64;
    Some(value * 2.0_f64.powi(shift))
}

/// What would be right, as a noun phrase: `a whole number from 0 to 5`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Whole { min, max } if max >= i32::MAX as u32 => write!(f, "a whole number, {min} or more"),
            Self::Whole { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Number(Range { low, above_low, high }) => {
                let unbounded = high >= f64::MAX;
                match (above_low, unbounded) {
                    (true, true) => write!(f, "a number above {low}"),
                    (true, false) => write!(f, "a number above {low}, at most {high}"),
                    (false, true) => write!(f, "a number, {low} or more"),
                    (false, false) => write!(f, "a number from {low} to {high}"),
                }
            }
            Self::Burst => f.write_str("-1, or a number, 0 or more"),
            Self::Span { min, max, whole_seconds } => {
                f.write_str("a duration")?;
                let (low, high) = (duration::short(min), duration::short(max));
                match (min.is_zero(), max >= duration::LONGEST) {
                    (true, true) => f.write_str(", 0s or more")?,
                    (false, true) => write!(f, ", {low} or more")?,
                    (_, false) => write!(f, " from {low} to {high}")?,
                }
                if whole_seconds { f.write_str(", whole seconds") } else { Ok(()) }
            }
            Self::SpanOrOff { max } => write!(f, "off, or a duration up to {}", duration::short(max)),
            Self::Flag => f.write_str("true or false"),
            Self::Word(words) => f.write_str(&words.join(", ")),
            Self::Class => f.write_str("kpa.autoscaling.knative.dev, or the class of another autoscaler"),
            Self::Hosts => f.write_str("host names, comma separated; *. may stand for the first label"),
            Self::Text(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_gos() {
        for (text, value) in [
            ("1", 1.0),
            ("+1.5", 1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e2", 100.0),
            ("0x1p-2", 0.25),
            ("0X1.8p1", 3.0),
            ("0x_1_0p0", 16.0),
        ] {
            assert_eq!(parse_number(text), Some(value), "{text}");
        }
        for text in ["", "-", "one", "1_0", "1 ", " 1", "--1", "+-1", "0x1", "0xp1", "1,5", "0x1p", "1e"] {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_that_is_not_finite_passes() {
        let any = Kind::Number(Range::between(-f64::MAX, f64::MAX));
        for text in ["NaN", "nan", "+nan", "inf", "-Inf", "infinity", "1e400", "-1e400", "0x1p99999"] {
            assert!(any.number(text).unwrap_err().0.contains("finite"), "{text}");
            assert!(Kind::Burst.number(text).is_err(), "{text}");
        }
        assert_eq!(Kind::Burst.number("-1"), Ok(-1.0));
        assert!(Kind::Burst.number("-0.5").is_err());
    }

    #[test]
    fn whole_numbers_have_32_bits() {
        let any = Kind::Whole { min: 0, max: i32::MAX as u32 };
        assert_eq!(any.whole("2147483647"), Ok(2_147_483_647));
        assert_eq!(any.whole("+7"), Ok(7));
        for text in ["2147483648", "3000000000", "-1", "99999999999999999999"] {
            assert!(any.whole(text).unwrap_err().0.contains("range"), "{text}");
        }
        for text in ["", "+", "1.0", "1e3", " 1", "0x10", "1_000", "two"] {
            assert!(any.whole(text).unwrap_err().0.contains("whole"), "{text}");
        }
    }

    #[test]
    fn a_refusal_is_short_and_helps() {
        let span = Kind::Span { min: Duration::ZERO, max: Duration::from_secs(3600), whole_seconds: true };
        assert_eq!(span.span("30").unwrap_err().0, "\"30\" has no unit; seconds are written 30s");
        assert!(span.span("1d").unwrap_err().0.contains("24h"));
        assert!(span.span("10500ms").unwrap_err().0.contains("whole seconds"));
        assert!(span.span(&"9".repeat(10_000)).unwrap_err().0.len() < 400);
        assert_eq!(span.to_string(), "a duration from 0s to 1h, whole seconds");
    }
}
