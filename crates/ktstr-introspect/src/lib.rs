//! Guest memory as typed values: address translation, kernel structures, BPF maps, snapshots.
//!
//! The crate turns the bytes of a stopped (or running) guest into a [`report::FailureDumpReport`] and
//! gives test authors a [`snapshot::Snapshot`] to ask it questions. It knows nothing of the virtual
//! machine: everything is read through [`memory::GuestMemory`], so a recorded image does as well.
//!
//! Guest bytes are hostile. Every reader here is total: loops are bounded, arithmetic is checked,
//! nothing is allocated by a size the guest chose without a cap, and what could not be read becomes an
//! error that names what was asked for and what was there.

pub mod bpf;
pub mod btf;
pub mod capture;
mod cgroups;
mod cpus;
mod dsq;
pub mod kernel;
pub mod memory;
pub mod paging;
mod pressure;
pub mod render;
pub mod report;
pub mod sampler;
pub mod scx;
pub mod snapshot;
pub mod symbols;
mod tasks;
