//! A virtual machine: one QEMU process with its topology, RAM and console, from its start to its exit.
//!
//! This crate does not choose the kernel, and does not know what the guest does or whether a run passed. It knows nothing
//! about schedulers.

mod confine;
mod console;
mod cpu;
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
mod steal;
mod tsc;
mod virtual_clock;

pub use confine::SANDBOX;
pub use error::MachineError;
pub use hooks::{ClockOf, HookKind, HookPoint, MAX_HOOKS, MAX_WORDS, Observation, Reading, Word};
pub use initramfs::Initramfs;
pub use machine::{Halt, Machine, anonymous_file};
pub use process::VcpuTime;
pub use program::{Program, stamp};
pub use qemu::{OLDEST_QEMU, Qemu, TRIED_QEMU};
pub use ram::{GuestRam, MailboxRam};
pub use shape::{Hmat, Llc, MAX_CPUS, Shape, SideCache};
pub use spec::{Accelerator, ClockMode, MachineSpec};
pub use steal::host_steal;
pub use virtual_clock::{
    Hold, MAX_MOMENTS, MAX_SENDERS, MAX_WATCHED, MomentPoint, Switch, SwitchDigest, TRACE_CAPACITY,
    Turns, VirtualClock, WatchPoints, WatchedWord,
};

/// Returns a hash of a text, for the keys of caches. It is not cryptographic, and may change with a release of Rust.
pub fn hash(text: &str) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}
