//! Checks that this machine has the programs and headers that a kernel build needs, and identifies the compiler.

use std::process::Command;

use ktstr_state::env;

use super::source::Origin;
use crate::{KernelError, command};

/// The required programs, each with its purpose.
const PROGRAMS: [(&str, &str); 7] = [
    ("make", "the build"),
    ("gcc", "the C compiler"),
    ("ld", "the linker"),
    (
        "flex",
        "the lexers of the configuration and of the device tables",
    ),
    (
        "bison",
        "the parsers of the configuration and of the device tables",
    ),
    ("bc", "the computation of constants"),
    (
        "pahole",
        "the type information (BTF); Debian's package is dwarves",
    ),
];

/// Returns an error that names everything that is missing, if something is.
pub(super) fn check(origin: &Origin) -> Result<(), KernelError> {
    let unpacker = origin
        .unpacker()
        .map(|program| (program, "the unpacking of the source"));
    let missing = missing(
        PROGRAMS.into_iter().chain(unpacker),
        is_there,
        has_header("libelf.h"),
    );
    if missing.is_empty() {
        return Ok(());
    }
    Err(KernelError::BuildNeeds {
        missing: missing.join("\n"),
    })
}

fn missing<'a>(
    programs: impl Iterator<Item = (&'a str, &'a str)>,
    is_there: impl Fn(&str) -> bool,
    has_libelf: bool,
) -> Vec<String> {
    let mut missing: Vec<String> = programs
        .filter(|(program, _)| !is_there(program))
        .map(|(program, purpose)| format!("  {program}: {purpose}"))
        .collect();
    if !has_libelf {
        missing.push("  libelf.h: objtool; Debian's package is libelf-dev".to_owned());
    }
    missing
}

fn is_there(program: &str) -> bool {
    env::PATH.get().is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

/// Returns whether the compiler finds a header. Only the compiler knows its search path.
fn has_header(name: &str) -> bool {
    let mut ask = Command::new("gcc");
    ask.args(["-E", "-include", name, "-x", "c", "/dev/null"]);
    command::run(&mut ask, |_| {}).is_ok()
}

/// Returns the names and versions of the programs that affect the result.
pub(super) fn compiler() -> String {
    ["gcc", "ld", "pahole"]
        .iter()
        .map(|program| {
            let printed = command::run(Command::new(program).arg("--version"), |_| {});
            let first = printed.unwrap_or_default();
            format!("{program} {}\n", first.lines().next().unwrap_or("unknown"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_missing_is_named_at_once() {
        let missing = missing(
            PROGRAMS.into_iter(),
            |p| p != "flex" && p != "pahole",
            false,
        );
        assert_eq!(missing.len(), 3);
        assert!(
            missing[0].contains("flex") && missing[1].contains("dwarves"),
            "{missing:?}"
        );
        assert!(missing[2].contains("libelf-dev"), "{missing:?}");
        assert!(super::missing(PROGRAMS.into_iter(), |_| true, true).is_empty());
    }
}
