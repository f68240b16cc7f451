// SPDX-License-Identifier: GPL-2.0-only
//! The binary of the scheduler; all of its code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    scx_ktstr::main()
}
