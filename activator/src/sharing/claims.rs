//! Slots of ours that other activators have asked for, until their requests come.
//!
//! Invariants: a slot that is claimed is in use; a claim that nobody redeems within [`CLAIM_LIFE`] gives it back; at most
//! [`CLAIMS_MAX`] are out.

use crate::gate::HeldSlot;
use crate::revisions::Handle;
use domain::Timestamp;
use http::HeaderValue;
use parking_lot::Mutex;
use platform::trust::Token;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a slot is kept for a request that was announced. Its activator sends it at once, or gives it back.
pub const CLAIM_LIFE: Duration = Duration::from_secs(5);
/// Slots kept at a time, over all revisions.
pub const CLAIMS_MAX: usize = 4096;

/// The number of a claim; none is used twice.
pub type ClaimId = u64;

/// Slots that are kept.
#[derive(Debug)]
pub struct Claims {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: ClaimId,
    /// By number, and so by age.
    kept: BTreeMap<ClaimId, Kept>,
    /// The word by which activators know each other, and the one before: not everybody learns of a new one at once.
    words: [Option<Token>; 2],
}

#[derive(Debug)]
struct Kept {
    handle: Arc<Handle>,
    slot: HeldSlot,
    since: Timestamp,
}

impl Claims {
    /// None, and the first will be `first`.
    #[must_use]
    pub fn new(first: ClaimId) -> Self {
        Self { state: Mutex::new(State { next: first, kept: BTreeMap::new(), words: [None, None] }) }
    }

    /// By which word activators know each other now.
    pub fn learn(&self, word: &str) {
        let mut state = self.state.lock();
        let known = state.words[0].as_ref().is_some_and(|known| known.is(word.as_bytes()));
        if !known && !word.is_empty() {
            let before = state.words[0].replace(Token::new(word));
            state.words[1] = before;
        }
    }

    /// The word to show.
    #[must_use]
    pub fn word(&self) -> Option<Token> {
        self.state.lock().words[0].clone()
    }

    /// Whether who shows `word` is one of us.
    #[must_use]
    pub fn knows(&self, word: &[u8]) -> bool {
        self.state.lock().words.iter().flatten().any(|known| known.is(word))
    }

    /// Keeps `slot` for a request; gives it back through its drop when too many are kept.
    #[must_use]
    pub fn keep(&self, now: Timestamp, handle: &Arc<Handle>, slot: HeldSlot) -> Option<ClaimId> {
        let mut state = self.state.lock();
        if state.kept.len() >= CLAIMS_MAX {
            // Unlocked first: a slot that falls takes the gate's lock.
            drop(state);
            drop(slot);
            return None;
        }
        let id = state.next;
        state.next += 1;
        state.kept.insert(id, Kept { handle: Arc::clone(handle), slot, since: now });
        Some(id)
    }

    /// The slot that `mark` is worth, and whose it is.
    #[must_use]
    pub fn redeem(&self, mark: &HeaderValue) -> Option<(Arc<Handle>, HeldSlot)> {
        let (word, id) = mark.to_str().ok()?.rsplit_once('.')?;
        if !self.knows(word.as_bytes()) {
            return None;
        }
        let Kept { handle, slot, .. } = self.state.lock().kept.remove(&id.parse().ok()?)?;
        Some((handle, slot))
    }

    /// Who had these claims does not want them.
    pub fn give_back(&self, ids: impl IntoIterator<Item = ClaimId>) {
        let mut state = self.state.lock();
        let kept: Vec<_> = ids.into_iter().filter_map(|id| state.kept.remove(&id)).collect();
        drop(state);
        drop(kept);
    }

    /// Gives back what nobody has come for.
    pub fn expire(&self, now: Timestamp) {
        let mut state = self.state.lock();
        let mut late = Vec::new();
        while let Some(first) = state.kept.first_entry().filter(|kept| now.since(kept.get().since) > CLAIM_LIFE) {
            late.push(first.remove());
        }
        drop(state);
        drop(late);
    }

    /// Slots kept now.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.state.lock().kept.len()
    }
}

/// What a request with the claim `id` is marked with.
#[must_use]
pub fn mark(word: &Token, id: ClaimId) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("{}.{id}", word.reveal())).ok()?;
    value.set_sensitive(true);
    Some(value)
}
