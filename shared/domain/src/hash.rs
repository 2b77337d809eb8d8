//! One hash of names that every process computes alike, for whoever divides things without asking.
//!
//! Invariant: it never changes between releases: programs of two of them agree during an upgrade.

/// Where a hash begins.
pub const BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// Goes on from `hash` with `bytes` (FNV-1a). To be mixed at the end.
#[must_use]
pub fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// FNV mixes its last bytes badly, and names differ in those: the finaliser of `SplitMix64`.
#[must_use]
pub const fn mix(hash: u64) -> u64 {
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
