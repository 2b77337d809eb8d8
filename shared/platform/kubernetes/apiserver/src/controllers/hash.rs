//! The name of a pod template: a hash in letters that spell no words.
//!
//! Invariant: equal templates have equal hashes. The value differs from a real cluster's, which hashes a dump of Go structs.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// Letters and digits without vowels and without those that look alike, as Kubernetes chooses them.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a, 32 bits, over the template's JSON and the number of collisions so far, in decimal, each digit as a safe letter.
pub(crate) fn template(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    // A template came from JSON, so it can be written as JSON; its maps are sorted.
    let mut bytes = serde_json::to_vec(template).unwrap_or_default();
    if let Some(collisions) = collisions {
        bytes.extend_from_slice(&collisions.to_le_bytes());
    }
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash.to_string().bytes().map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()])).collect()
}
