//! Runs programs of the host in the guest, as the load of a test: starts them in a cgroup, reads their output, waits for
//! them, and kills them together with every process that they have started.
//!
//! A test function that runs a program itself uses [`RunsPayloads::payload`]; in a scenario, the operations do this.
//! This module does not bring the program into the guest (the host packs what the test declares) and does not judge it
//! (`ktstr_assert::payload` does).

mod capture;
mod handle;
mod leftover;
mod process;
mod run;
#[cfg(test)]
mod tests;

pub use handle::PayloadHandle;
pub use run::{PayloadRun, RunsPayloads};

/// The folder in the guest that holds the files a test declares.
pub const INCLUDE_FILES: &str = "/include-files";
