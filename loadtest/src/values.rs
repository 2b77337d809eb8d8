//! Values of the command line: durations as Go writes them, and fractions.

use std::time::Duration;

/// Parses `500ms`, `1.5s`, `2m`, `1h30m`, `0`: the grammar of Go's durations that the rest of kpa uses too.
///
/// # Errors
///
/// Anything else, said in words.
pub fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST_SECS: f64 = 7.0 * 24.0 * 3600.0;
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(format!("{text:?} is no duration: write 500ms, 30s or 1h30m")),
        };
        let number: f64 = number.parse().map_err(|_| format!("{text:?} is no duration: {number:?} is no number"))?;
        seconds += number * scale;
        rest = tail;
    }
    if text.is_empty() || seconds > LONGEST_SECS {
        return Err(format!("{text:?} is not between 0 and 168h"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Parses a number from 0 to 1.
///
/// # Errors
///
/// Anything else, said in words.
pub fn fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        Ok(_) | Err(_) => Err(format!("{text:?} is not a number from 0 to 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [("0", 0), ("500ms", 500), ("1.5s", 1500), ("2m", 120_000), ("1h30m", 5_400_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1d", "1s2", "NaNs", "999h", "1..2s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn fractions_end_at_one() {
        assert_eq!(fraction("0.25"), Ok(0.25));
        for text in ["1.1", "-0.1", "NaN", "x"] {
            assert!(fraction(text).is_err(), "{text}");
        }
    }
}
