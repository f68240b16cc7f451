//! Every check, threshold, pattern and comparator on what real runs measured: one that holds, and one
//! that does not, with its message. The runs are in `tests/data`; its README says how they were made.
//!
//! That nothing is left out is itself tested: fields are taken apart by name, so that a new one does
//! not compile without a pair, and methods are read off the sources.

mod across;
mod claims;
mod fixture;
mod monitor;
mod temporal;
mod views;
mod workers;
