//! The schedule of a run: which tasks were runnable, where and when they ran, and why they did not.
//!
//! A producer reports [`Raw`] observations. [`Assembler`] converts them into [`Event`]s, [`Writer`] packs these into a
//! file of bounded size, and [`Schedule`] reads such a file. The module [`query`] answers the questions that verdicts
//! ask.
//!
//! This crate knows nothing about machines, guest memory or verdicts, and does no I/O: a file is a byte slice.
// The numbers come from a guest, or from a file, so no cast may change a number unnoticed.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

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
pub mod words;
mod writer;

pub use assemble::{Assembler, Raw};
pub use error::ReadError;
pub use event::{
    Class, Cpu, CpuMask, DequeueReason, Event, IDLE_CGROUP_WEIGHT, Pid, Reason, SHARES_SHIFT,
    SchedExtState, What,
};
pub use reader::{Gap, Schedule};
pub use tables::{Cgroup, Source, Tables, Topology};
pub use writer::Writer;

/// The name of the schedule's file in the folder of a run's record.
pub const SCHEDULE_FILE: &str = "schedule.bin";
