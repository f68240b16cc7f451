//! Programs of the host that a test runs in the guest as its load: started in a cgroup, read from, waited for, killed,
//! with all that they have started.
//!
//! [`RunsPayloads::payload`] is for a test function that runs one itself; in a scenario the operations do. Not for:
//! bringing the program into the guest (the host packs what the test declares) or judging it (`ktstr_assert::payload`).

mod capture;
mod handle;
mod leftover;
mod process;
mod run;
#[cfg(test)]
mod tests;

pub use handle::PayloadHandle;
pub use run::{PayloadRun, RunsPayloads};

/// Where the files lie in the guest that a test declares.
pub const INCLUDE_FILES: &str = "/include-files";
