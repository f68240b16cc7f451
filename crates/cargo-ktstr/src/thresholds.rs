//! `cargo ktstr show-thresholds TEST`: prints the bounds that a test is judged by. The test's own binary merges and prints them,
//! because only that binary has the test's declaration.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use ktstr_state::env;

use crate::exit::Exit;
use crate::explore::target;

/// The options of `cargo ktstr show-thresholds`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Name of the test. Its binary is searched for among the test binaries of the package, as `cargo test` builds them.
    test: String,
    /// The package that contains the test, instead of the package of the current folder.
    #[arg(short, long, value_name = "PACKAGE")]
    package: Option<String>,
    /// The binary that contains the test; nothing is built in this case.
    #[arg(long, value_name = "PATH", conflicts_with = "package")]
    binary: Option<PathBuf>,
}

/// Prints the bounds as the test's binary lists them. A binary without such a test is an error.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let binary = match &options.binary {
        Some(path) => target::Binary::at(path)?,
        None => target::find(&options.test, options.package.as_deref())?,
    };
    let mut command = Command::new(&binary.path);
    command
        .args(["--show-thresholds", &format!("ktstr/{}", options.test)])
        .env(&env::NEXTEST, "1")
        .stdin(Stdio::null());
    binary.place(&mut command);
    let binary = &binary.path;
    let output = command
        .output()
        .with_context(|| format!("asking {} for its bounds", binary.display()))?;
    if !output.status.success() {
        bail!(
            "{} printed no bounds of the test `{}`: {}",
            binary.display(),
            options.test,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    if output.stdout.is_empty() {
        bail!(
            "{} printed no bounds of the test `{}`: it is not a test binary of ktstr",
            binary.display(),
            options.test
        );
    }
    out.write_all(&output.stdout)?;
    Ok(Exit::Done)
}
