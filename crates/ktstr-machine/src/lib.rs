//! The VM: one QEMU process, its shape, its RAM, its console, its end.
//!
//! Not for: what the guest does, which kernel it boots, or whether a run was good. Nothing here
//! knows of schedulers.

mod confine;
mod console;
mod error;
mod hooks;
mod initramfs;
mod machine;
mod process;
mod program;
mod qemu;
mod qmp;
mod ram;
mod shape;
mod spawner;
mod spec;
mod virtual_clock;

pub use confine::SANDBOX;
pub use error::MachineError;
pub use hooks::{ClockOf, HookKind, HookPoint, MAX_HOOKS, MAX_WORDS, Observation, Reading, Word};
pub use initramfs::Initramfs;
pub use machine::{Halt, Machine, anonymous_file};
pub use process::VcpuTime;
pub use program::{Program, stamp};
pub use qemu::{OLDEST_QEMU, Qemu, TRIED_QEMU};
pub use ram::{GuestRam, MailboxRegion};
pub use shape::Shape;
pub use spec::{Accelerator, ClockMode, MachineSpec};
pub use virtual_clock::{
    Hold, MAX_MOMENTS, MAX_SENDERS, MAX_WATCHED, MomentPoint, Switch, TRACE_CAPACITY, Turns,
    VirtualClock, WatchPoints, WatchedWord,
};

/// A short name for a text: for keys of caches, not against an adversary.
pub fn hash(text: &str) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}
