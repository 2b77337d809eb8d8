//! The token that an activator shows: a projected service-account token, read again when the kubelet has renewed it
//! (kpa-behaviour 7.3).
//!
//! Invariant: a file that cannot be read or holds no token never takes away one that was good.

use parking_lot::Mutex;
use platform::trust::{Shows, Token};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the token of the audience [`AUDIENCE`] is mounted unless something else is said.
pub const TOKEN_PATH: &str = "/var/run/secrets/kpa/token";
/// Whom our tokens are meant for: another program's token is no proof, and ours is none elsewhere.
pub const AUDIENCE: &str = "kpa";
/// Longest token that is shown or looked at, in bytes. The ones of Kubernetes have about 1 KiB.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A token in a file. The kubelet replaces it when most of its time is over: then it is another file.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    token: Option<Token>,
    /// Which file it was read from.
    from: Option<Stamp>,
    failing: bool,
}

/// Tells one state of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    bytes: u64,
}

impl From<&Metadata> for Stamp {
    fn from(file: &Metadata) -> Self {
        let modified = (file.mtime(), file.mtime_nsec());
        Self { device: file.dev(), inode: file.ino(), modified, bytes: file.size() }
    }
}

/// Why a file gives no token.
#[derive(Debug, thiserror::Error)]
enum BadToken {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it has more than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is empty")]
    Empty,
    #[error("it holds more than one word of visible ASCII")]
    NotOne,
}

impl TokenFile {
    /// The token in the file at `path`. The file need not exist yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), held: Mutex::default() }
    }

    fn refresh(&self, held: &mut Held) -> Result<(), BadToken> {
        if held.from == Some(Stamp::from(&fs::metadata(&self.path)?)) {
            return Ok(());
        }
        let file = File::open(&self.path)?;
        // Of the file that is read, not of one that has taken its place meanwhile.
        let stamp = Stamp::from(&file.metadata()?);
        let mut text = String::new();
        file.take(TOKEN_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
        let token = checked(&text);
        // What is wrong stays so until the file changes.
        held.from = Some(stamp);
        held.token = Some(token?);
        Ok(())
    }
}

fn checked(text: &str) -> Result<Token, BadToken> {
    let token = text.trim_ascii();
    if text.len() > TOKEN_BYTES_MAX {
        Err(BadToken::TooLong)
    } else if token.is_empty() {
        Err(BadToken::Empty)
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err(BadToken::NotOne)
    } else {
        Ok(Token::new(token))
    }
}

impl Shows for TokenFile {
    /// The file lies in memory, as all projected volumes do: looking at it takes microseconds.
    fn token(&self) -> Option<Token> {
        let mut held = self.held.lock();
        let path = self.path.display();
        match self.refresh(&mut held) {
            Ok(()) => held.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut held.failing, true) {
                    let now = if held.token.is_some() { "the last good one is shown" } else { "none is shown" };
                    tracing::warn!("the token for autoscalers, {path}: {error}; {now}");
                }
            }
        }
        held.token.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn shown(file: &TokenFile) -> Option<String> {
        file.token().map(|token| token.reveal().to_owned())
    }

    /// As the kubelet does it: a new folder, and a link that is put in place of the old one.
    fn rotate(volume: &Path, generation: u32, token: &str) {
        let folder = volume.join(format!("..{generation}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("token"), token).unwrap();
        symlink(&folder, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    }

    #[test]
    fn a_token_that_the_kubelet_renews_is_read_again() {
        let volume = tempfile::tempdir().unwrap();
        let path = volume.path().join("token");
        let file = TokenFile::new(&path);
        assert_eq!(shown(&file), None);
        rotate(volume.path(), 1, "first.of.all");
        symlink("..data/token", &path).unwrap();
        assert_eq!(shown(&file).as_deref(), Some("first.of.all"));
        rotate(volume.path(), 2, "other.of.all\n");
        assert_eq!(shown(&file).as_deref(), Some("other.of.all"), "of the same length, but for the line's end");
    }

    #[test]
    fn what_is_no_token_never_takes_away_a_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let file = TokenFile::new(&path);
        for bad in ["", " \n", "two words", "caf\u{e9}", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            fs::write(&path, bad).unwrap();
            assert_eq!(shown(&file), None, "{bad:.20}");
        }
        fs::write(&path, "good").unwrap();
        assert_eq!(shown(&file).as_deref(), Some("good"));
        fs::write(&path, "two words").unwrap();
        assert_eq!(shown(&file).as_deref(), Some("good"));
        fs::remove_file(&path).unwrap();
        assert_eq!(shown(&file).as_deref(), Some("good"));
        fs::write(&path, "x".repeat(TOKEN_BYTES_MAX)).unwrap();
        assert_eq!(shown(&file).map(|token| token.len()), Some(TOKEN_BYTES_MAX));
    }
}
