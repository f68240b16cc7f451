//! Inside the VM: PID 1, cgroup v2, workers, the scheduler process, the step engine.
//!
//! Not for: deciding whether a run was good (ktstr-assert does) or anything on the host.

/// What the guest side is, as a hash of its sources.
pub const AGENT: &str = env!("KTSTR_AGENT_HASH");

pub mod cgroup;
pub mod clock;
pub mod direct;
pub mod engine;
pub mod init;
pub mod link;
pub mod mail;
pub mod payload;
pub mod protocol;
pub mod realtime;
mod wire;
pub mod workers;
