//! The language of a test as plain data: topologies, cgroups, steps, workloads, schedulers.
//!
//! Everything a test *declares* is here, together with its validation and the computations that depend only on the
//! declaration: which CPUs a cpuset selects, which workers a cgroup gets, whether a topology can be built. The same input
//! gives the same output: there are no threads and no clock, and the only I/O is [`topology::TestTopology::from_system`],
//! which reads sysfs. What *runs* a declaration (cgroupfs, processes, the step engine) lives in `ktstr-guest`; what builds the
//! machine lives in `ktstr-machine`.
//!
//! | Module | Holds |
//! |---|---|
//! | [`topology`] | declared ([`topology::Topology`]) and observed ([`topology::TestTopology`]) CPUs |
//! | [`scheduler`] | the scheduler under test and how its binary is found |
//! | [`workload`] | what workers do, and with which policy, affinity and memory policy |
//! | [`cgroup`] | the trait through which a cgroup v2 tree is driven |
//! | [`ops`] | steps, holds, cgroup definitions, operations |
//! | [`payload`] | programs of the host that run in the guest as load |
//! | [`disk`] | the guest's disk |
//! | [`rt_app`] | workload files of rt-app, read as scenarios |
//! | [`text`] | scenarios as text, read and printed |
//! | [`ctx`] | the context that a test function gets |

#[macro_use]
pub mod text;

pub mod cgroup;
pub mod ctx;
pub mod disk;
pub mod ops;
pub mod payload;
pub mod rt_app;
pub mod scheduler;
pub mod topology;
pub mod workload;

mod const_text;

pub use ctx::{Ctx, CtxBuilder, Nameless, failure_dump_name};
