//! Every check, threshold, pattern and comparator, applied to measurements of real runs: one case that holds and one
//! that does not, with its message. The runs are in `tests/data`, whose README says how they were made.
//!
//! The tests also check that nothing is left out: structs are destructured by field name, so that a new field without a
//! pair does not compile, and methods are read from the sources.

mod across;
mod claims;
mod fixture;
mod monitor;
mod temporal;
mod views;
mod workers;
