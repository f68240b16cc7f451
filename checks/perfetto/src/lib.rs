//! Nothing: this package is for its test, `tests/read_back.rs`.
