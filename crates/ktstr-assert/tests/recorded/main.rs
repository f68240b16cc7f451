//! Every check, threshold, pattern and comparator, applied to measurements of real runs: one case that holds and one
//! that does not, with its message. The runs are in `tests/data`, whose README describes how they were recorded.
//!
//! The tests also check that nothing is left out. Structs are destructured by field name, so a new field is a compile error
//! until the test names it. The names of methods are read from the sources.

mod across;
mod claims;
mod fixture;
mod monitor;
mod temporal;
mod views;
mod workers;
