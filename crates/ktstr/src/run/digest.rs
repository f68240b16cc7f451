//! A run in one number: what the guest's memory and console were at its end.
//!
//! Only under the virtual clock, where the guest stands still at its last message and the same
//! seed leads to the same bytes. Captures are not part of it: looking must not change it.

use ktstr_introspect::report::FailureDumpReport;
use ktstr_machine::{GuestRam, MachineError};

/// The digest of a machine that stands still, in hexadecimal.
pub(super) fn digest(ram: &GuestRam, console: &str) -> Result<String, MachineError> {
    let mut hasher = blake3::Hasher::new();
    ram.own_pages(|gpa, bytes| {
        hasher.update(&gpa.to_le_bytes());
        hasher.update(bytes);
    })?;
    hasher.update(console.as_bytes());
    Ok(hasher.finalize().to_hex().to_string())
}

/// Takes a capture into the digest of all of a run: what was seen, and its `place`, which is its tag and when it was taken by
/// the guest's clock. How long the host took is no part of it.
pub(super) fn take_in(
    hasher: &mut blake3::Hasher,
    place: &impl serde::Serialize,
    report: &FailureDumpReport,
) {
    // Plain data always has a JSON form, and hashing cannot fail.
    let _ = serde_json::to_writer(hasher, &(place, report));
}
