//! Texts that are read and printed.
