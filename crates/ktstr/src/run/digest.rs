//! A run in one number: what the guest's memory and console were at its end.
//!
//! Only under the virtual clock, where the guest stands still at its last message and the same
//! seed leads to the same bytes. Captures are not part of it: looking must not change it.

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
