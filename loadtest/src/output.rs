//! Where results and notices are written: results on standard output, everything else on standard error.
//!
//! Invariant: a closed pipe (`loadtest … | head`) is no error.

use std::io::Write as _;

/// One line of a result.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Something for the person who waits, not part of the result.
pub fn notice(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
