//! The digest of a run: one hash of the console and of the memory that the guest wrote, at the end of the run.
//!
//! Only a run that completed under the virtual clock has a digest. Its guest is stopped as soon as the guest has sent its last
//! message, so that the same seed leads to the same bytes. Captures are not part of the digest, because taking a capture must
//! not change it; all captures together have a separate digest.

use ktstr_machine::{GuestRam, MachineError};

/// Returns, in hexadecimal, the BLAKE3 digest of the console and of the pages that belong to this machine alone
/// ([`GuestRam::own_pages`]). The machine must be stopped.
pub(super) fn digest(ram: &GuestRam, console: &str) -> Result<String, MachineError> {
    let mut hasher = blake3::Hasher::new();
    ram.own_pages(|gpa, bytes| {
        hasher.update(&gpa.to_le_bytes());
        hasher.update(bytes);
    })?;
    hasher.update(console.as_bytes());
    Ok(hasher.finalize().to_hex().to_string())
}

/// Adds a capture, or the scheduler's statistics for it, to the digest of all captures of a run. `place` identifies the capture,
/// for example by its tag, its step, and the guest time at which it was taken. How long the host took for the capture is left
/// out, because that differs from run to run.
pub(super) fn take_in(
    hasher: &mut blake3::Hasher,
    place: &impl serde::Serialize,
    content: &impl serde::Serialize,
) {
    // Plain data can always be serialized to JSON, and hashing cannot fail.
    let _ = serde_json::to_writer(hasher, &(place, content));
}
