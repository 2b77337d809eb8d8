//! What commands print: results on standard output, remarks on standard error.
//!
//! Invariant: a reader that has gone (`kpa get | head`) ends a command in silence, never with a panic.

use std::io::{self, Write};
use std::path::Path;

/// Writes a result, whole.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Says something that is no part of the result. Where nobody can hear it, it is not said.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether a command ended because nobody reads its output any more.
pub(crate) fn reader_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// `1 service`, `2 services`.
pub(crate) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A path as it is shown: relative to `folder` where it lies in it.
pub(crate) fn relative(path: &Path, folder: &Path) -> String {
    match path.strip_prefix(folder) {
        Ok(here) if here.as_os_str().is_empty() => ".".to_owned(),
        Ok(below) => below.display().to_string(),
        Err(_) => path.display().to_string(),
    }
}
