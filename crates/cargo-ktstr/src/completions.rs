//! `cargo ktstr completions SHELL`: prints a script with which a shell completes commands and options.

use std::io::Write;

use anyhow::Result;
use clap_complete::Shell;

use crate::exit::Exit;

/// Prints the shell's script for the commands of `command`. It completes `cargo-ktstr`, since cargo's own script completes the
/// words after `cargo`.
pub fn run(out: &mut dyn Write, shell: Shell, command: &clap::Command) -> Result<Exit> {
    // Internal commands are not completed.
    let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
    let mut shown = clap::Command::new("cargo-ktstr")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommands(shown.cloned().collect::<Vec<_>>());
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown, "cargo-ktstr", &mut script);
    out.write_all(&script)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn each_shell_has_a_script_with_the_commands_and_their_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            run(&mut script, shell, &crate::Cli::command()).expect("a script");
            let script = String::from_utf8(script).expect("text");
            for word in ["verifier", "merge", "max-growth", "cargo-ktstr"] {
                assert!(script.contains(word), "{shell}: there is no {word}");
            }
            assert!(!script.contains("run-cell"), "{shell}");
        }
    }
}
