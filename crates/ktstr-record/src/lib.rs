//! The records of runs on disk: each run has a folder with a JSON record and its artefacts.
//!
//! A run writes into a hidden staging folder and moves it into place when it is complete, so a reader sees a run completely or
//! not at all, however the writing process ends. A live process holds a lock on its staging folder; the next run removes the
//! folders of dead processes.
//!
//! The schema of the record is described in `docs/record.md`. This crate knows nothing about schedulers, machines or verdict
//! rules: it stores the values that it is given.

mod artefact;
pub mod brief;
mod clean;
pub mod compare;
mod error;
mod host;
mod list;
pub mod markdown;
mod moment;
mod record;
mod root;
mod rundir;
pub mod settings;
mod staging;
pub mod step_summary;
mod switches;
pub mod terminal;
mod test_name;
#[cfg(test)]
mod testing;

pub use artefact::{JSON_CAP, TEXT_CAP};
pub use clean::{Cleaned, clean};
pub use error::RecordError;
pub use list::{
    Damaged, Listed, Listing, SIDECARS, VERIFIER_CELL, list, newest_of_process, read, repeat_of,
};
pub use moment::CaptureMoment;
pub use record::{
    Accelerator, CaptureRecord, Clock, FindingRecord, HostRecord, PayloadMetricRecord,
    PayloadRecord, ProgramRecord, RECORD_FILE, RepeatRecord, Repeated, RunRecord, RunVerdict,
    SCHEMA, SchedulerRecord, SchedulerStats, Start, SwitchesRecord,
};
pub use root::runs_root;
pub use rundir::{RunDir, timestamp};
pub use switches::{SWITCHES_FILE, Switch, Switches};
pub use test_name::{Family, TestName};
