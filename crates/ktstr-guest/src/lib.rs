//! The guest side: PID 1, cgroup v2, workers, payloads, the scheduler process and the step engine,
//! all of which run inside the VM. The host uses the messages in [`protocol`], and a `host_only`
//! test runs the engine, the workers and the payloads on the host.
//!
//! This crate does not decide whether a run was good (ktstr-assert does).

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
pub mod stats;
mod wire;
pub mod workers;
