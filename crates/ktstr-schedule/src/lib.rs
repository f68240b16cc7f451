//! The schedule of a run: who was runnable, who ran where, from when to when, and why not.
//!
//! A producer describes what it saw as [`Raw`] observations, [`Assembler`] turns them into
//! [`Event`]s, [`Writer`] packs these into a bounded file, and [`Schedule`] reads such a file
//! back. The questions that a judgement asks are answered by [`query`].
//!
//! Not for: machines, guest memory, or verdicts. Nothing here does I/O; a file is a byte slice.

mod arithmetic;
mod assemble;
mod bytes;
mod chunk;
mod codec;
mod error;
mod event;
mod numbers;
pub mod query;
mod reader;
mod section;
mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod writer;

pub use assemble::{Assembler, Raw};
pub use error::ReadError;
pub use event::{Class, Cpu, CpuMask, DequeueReason, Event, Pid, Reason, SchedExtState, What};
pub use reader::{Gap, Schedule};
pub use tables::{Cgroup, Source, Tables, Topology};
pub use writer::Writer;

/// Name of the file beside a run's record.
pub const SCHEDULE_FILE: &str = "schedule.bin";
