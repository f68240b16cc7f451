// SPDX-License-Identifier: GPL-2.0-only
//! The program; all of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    scx_ktstr::main()
}
