// SPDX-License-Identifier: GPL-2.0-only
//! A small, correct sched_ext scheduler that can be made defective on request. ktstr tests itself
//! with it.
//!
//! The scheduling is in `bpf/main.bpf.c`. The Rust part loads the BPF part, turns on the defects
//! that take effect only some time after attach, and reports why the scheduler ended. It makes no
//! scheduling decisions.
//!
//! The scheduler is a program. It is also a library, so that `cargo-ktstr` can install it next to
//! itself for its demo.

mod cli;
mod defects;
mod exit;
mod run;
mod signals;
mod skel;
mod stats;
mod topology;

use std::io::Write;
use std::process::ExitCode;

/// Runs the whole program: parses the command line, schedules until a signal, `--exit-after` or the
/// kernel ends the scheduler, and reports why it ended. The exit status is 0 after a normal end, 1
/// if the scheduler was ejected or could not be loaded, and 2 if the arguments are wrong.
pub fn main() -> ExitCode {
    let options = match cli::parse(std::env::args_os().skip(1)) {
        Ok(cli::Request::Run(options)) => options,
        Ok(cli::Request::Print(text)) => {
            // A reader that closes the pipe early, such as `head`, has read what it wants.
            let _ = writeln!(std::io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        Err(err) => {
            eprintln!("ktstr: {err}\nktstr: see scx-ktstr --help");
            return ExitCode::from(2);
        }
    };
    for ignored in &options.ignored {
        eprintln!("ktstr: ignoring argument {ignored:?}");
    }
    match run::run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("ktstr: {err:#}");
            ExitCode::FAILURE
        }
    }
}
