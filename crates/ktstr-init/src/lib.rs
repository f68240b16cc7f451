//! The program that is PID 1 of the guest, as bytes that every test binary carries.
//!
//! PID 1 is a program of its own, and not the test's binary, because PID 1 is a part of every saved machine (a template). The
//! tests of a workspace, and all builds of a test, boot the same bytes, so they share the templates in which the machine has
//! booted and the scheduler has attached, and their runs do not depend on which of them made these templates.
//!
//! The code is `ktstr_guest::init::main`. The build script of this crate is the program that calls it.

/// The contents of the program's file: an ELF executable, without debug information if the host that built it has `strip`. It
/// is linked to the C library of that host, also if the test itself is linked statically. It is not optimised, because cargo
/// compiles build scripts without optimisation by default, in release builds too.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// A hash of [`PROGRAM`], 16 hexadecimal digits.
pub const HASH: &str = env!("KTSTR_INIT_HASH");
