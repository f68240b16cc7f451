//! Guest memory as typed values: address translation, kernel structures, BPF maps, captures, samples of the runqueues.
//!
//! The crate turns the bytes of a stopped (or running) guest into the plain data of `ktstr-snapshot`: a
//! [`ktstr_snapshot::report::FailureDumpReport`], samples, and the exit of a scheduler. It knows nothing of the virtual
//! machine: everything is read through [`memory::GuestMemory`], so the crate works on a recorded image too.
//!
//! Guest bytes are treated as hostile. Every reader returns for any contents of memory: loops are bounded, arithmetic is checked,
//! an allocation whose size the guest chooses has a cap, and a failed read becomes an error that names what was requested and
//! what was found.
// The numbers come from a guest: a cast must not change a number unnoticed.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

pub mod bpf;
pub mod btf;
pub mod capture;
mod cgroup_cpu;
mod cgroups;
mod cpus;
mod dsq;
pub mod kernel;
pub mod memory;
pub mod narrow;
mod numa;
pub mod paging;
mod pressure;
pub mod render;
pub mod sampler;
pub mod scx;
pub mod symbols;
mod tasks;
pub mod trace_buffer;
