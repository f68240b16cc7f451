//! A small, correct sched_ext scheduler.
fn main() {}
