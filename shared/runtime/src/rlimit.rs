//! Room for connections: the limit on open files, raised as far as the system lets us (kpa-behaviour 4.9).

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fmt;
use std::io;

/// What was found and what was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// The soft limit before.
    pub before: u64,
    /// The soft limit now; the hard limit unless the system refused.
    pub now: u64,
}

impl fmt::Display for OpenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.before == self.now {
            write!(f, "open files: {}", self.now)
        } else {
            write!(f, "open files: {}, raised from {}", self.now, self.before)
        }
    }
}

/// Raises the soft limit of RLIMIT_NOFILE to the hard limit. Children inherit it.
///
/// # Errors
/// When the limit cannot be read or written; the old one stays in force.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(io::Error::from)?;
    if before < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(io::Error::from)?;
    }
    let (now, _) = getrlimit(Resource::RLIMIT_NOFILE).map_err(io::Error::from)?;
    Ok(OpenFiles { before, now })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let got = raise_open_files().unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((got.now, soft), (hard, hard));
        assert_eq!(raise_open_files().unwrap().before, hard);
    }
}
