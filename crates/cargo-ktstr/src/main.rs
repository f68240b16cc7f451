//! The command line of ktstr.
fn main() {}
