//! An empty library: the package only exists for its test, `tests/read_back.rs`.
