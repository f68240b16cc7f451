//! Tests that can run in parallel, because they do not need the whole host; nearly all of them boot machines. They are one
//! program, so that it is linked once and all of them run in parallel.
//!
//! `cargo test --workspace --test vm -- monitor::` runs those of one file.

#[path = "../common/mod.rs"]
#[macro_use]
mod common;

mod auto_repro;
mod bypass;
mod captures;
mod cgroup_cpu;
mod claims;
mod defaults;
mod direct;
mod disk;
mod expected_error;
mod first_run;
mod forks;
mod guest_failures;
mod guide;
mod interface;
mod isolation;
mod kernel_ops;
mod map_kinds;
mod map_write;
mod moments;
mod monitor;
mod numa;
mod payload;
mod payload_runs;
mod pointers;
mod policy_op;
mod public_paths;
mod quota;
mod random;
mod scenario_files;
mod schedule;
mod scheduler_setup;
mod scheduler_stats;
mod screens;
mod task_time;
mod thresholds;
mod turns;
mod uneven;
mod work_conservation;
