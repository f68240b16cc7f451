//! Every check, threshold, pattern and comparator, applied to measurements of real runs: one case that holds and one
//! that does not, with its message. The runs are in `tests/data`, whose README describes how they were recorded.
//!
//! The tests also check that nothing is left out: structs are destructured by field name, so that a test with a new
//! field does not compile until the field has a pair, and the names of methods are read from the sources.

mod across;
mod claims;
mod fixture;
mod monitor;
mod temporal;
mod views;
mod workers;
