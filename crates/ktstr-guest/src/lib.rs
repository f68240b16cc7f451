//! The guest side: PID 1, cgroup v2, workers, the scheduler process and the step engine, all of
//! which run inside the VM.
//!
//! This crate does not decide whether a run was good (ktstr-assert does), and it does nothing on
//! the host.

/// A hash of the sources of the guest side. Templates with another hash are not reused.
pub const AGENT: &str = env!("KTSTR_AGENT_HASH");

pub mod cgroup;
pub mod clock;
pub mod direct;
pub mod engine;
pub mod init;
pub mod kmsg;
pub mod link;
pub mod mail;
pub mod payload;
pub mod protocol;
pub mod realtime;
mod wire;
pub mod workers;
