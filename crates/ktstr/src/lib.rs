//! Tests for Linux process schedulers, as functions: a real kernel in a VM, a verdict out.
