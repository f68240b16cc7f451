//! The programs and libraries that building and running need.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Check;

/// The oldest QEMU that is known to work.
const QEMU_MIN: Version = (10, 0);
/// The oldest clang whose BPF target compiles the scheduler.
const CLANG_MIN: Version = (17, 0);
/// The names that distributions install clang under.
const CLANGS: [&str; 8] = [
    "clang", "clang-23", "clang-22", "clang-21", "clang-20", "clang-19", "clang-18", "clang-17",
];

type Version = (u32, u32);

pub(super) fn checks() -> Vec<Check> {
    vec![
        rust(),
        qemu(),
        clang(),
        match on_path("pkg-config") {
            Some(path) => Check::found("pkg-config", path.display().to_string()),
            None => Check::missing("pkg-config", "not on PATH", "install pkg-config"),
        },
        library("libelf", "libelf-dev"),
        library("zlib", "zlib1g-dev"),
    ]
}

fn rust() -> Check {
    let min = version_in(env!("CARGO_PKG_RUST_VERSION")).unwrap_or((1, 91));
    let todo = format!(
        "install Rust {}.{} or newer, e.g. `rustup update stable`",
        min.0, min.1
    );
    judge("Rust", &[("rustc".into(), &["--version"])], min, &todo)
}

fn qemu() -> Check {
    let todo = "install QEMU for x86-64 (Debian: package qemu-system-x86; on Debian 12 from bookworm-backports)";
    judge(
        "QEMU ≥ 10",
        &[("qemu-system-x86_64".into(), &["--version"])],
        QEMU_MIN,
        todo,
    )
}

fn clang() -> Check {
    let own = env::var_os("CLANG")
        .filter(|name| !name.is_empty())
        .map(PathBuf::from);
    let candidates: Vec<(PathBuf, &[&str])> = own
        .into_iter()
        .chain(CLANGS.map(PathBuf::from))
        .map(|name| (name, &["--version"] as &[&str]))
        .collect();
    judge(
        "clang ≥ 17",
        &candidates,
        CLANG_MIN,
        "install clang (Debian 12: clang-19; Debian 13: clang), or set CLANG",
    )
}

/// The first candidate that is new enough; else the newest that was found says why not.
fn judge(name: &'static str, candidates: &[(PathBuf, &[&str])], min: Version, todo: &str) -> Check {
    let mut too_old = None;
    for (program, arguments) in candidates {
        let Some(path) = on_path(program) else {
            continue;
        };
        let Some(version) = output(&path, arguments).as_deref().and_then(version_in) else {
            continue;
        };
        let found = format!("{}.{}, {}", version.0, version.1, path.display());
        if version >= min {
            return Check::found(name, found);
        }
        too_old.get_or_insert(found);
    }
    match too_old {
        Some(found) => Check::missing(
            name,
            format!("{found}: older than {}.{}", min.0, min.1),
            todo,
        ),
        None => Check::missing(name, "not on PATH", todo),
    }
}

fn library(name: &'static str, package: &str) -> Check {
    let todo = format!("install {name} with its headers (Debian: package {package})");
    match output(Path::new("pkg-config"), &["--modversion", name]) {
        Some(version) => Check::found(name, version.trim().to_owned()),
        None => Check::missing(name, "pkg-config does not know it", todo),
    }
}

/// Where `program` is found on `PATH`, or itself if it is a path.
pub(super) fn on_path(program: impl AsRef<Path>) -> Option<PathBuf> {
    let program = program.as_ref();
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_path_buf());
    }
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// What a program prints, if it ends well.
fn output(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first `major.minor` in what a program says of itself.
fn version_in(text: &str) -> Option<Version> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .find_map(|word| {
            let (major, rest) = word.split_once('.')?;
            let minor = rest.split('.').next()?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::doctor::Status;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(
            version_in("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"),
            Some((10, 0))
        );
        assert_eq!(version_in("Debian clang version 19.1.7 (3)"), Some((19, 1)));
        assert_eq!(
            version_in("rustc 1.95.0 (59807616e 2026-03-21)"),
            Some((1, 95))
        );
        assert_eq!(version_in("1.91"), Some((1, 91)));
        assert_eq!(version_in("no version here. 7 of 9"), None);
        assert_eq!(version_in("99999999999.1"), None);
    }

    #[test]
    fn too_old_is_missing_and_says_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("qemu");
        fs::write(&program, "#!/bin/sh\necho QEMU emulator version 7.2.17\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let check = judge("QEMU", &[(program.clone(), &[])], (10, 0), "do this");
        assert_eq!(check.status, Status::Missing);
        assert!(
            check.found.starts_with("7.2, ") && check.found.ends_with("older than 10.0"),
            "{}",
            check.found
        );
        assert_eq!(check.todo.as_deref(), Some("do this"));
        assert_eq!(
            judge("QEMU", &[(program, &[])], (7, 2), "").status,
            Status::Found
        );
        assert_eq!(
            judge("QEMU", &[("/nonexistent/qemu".into(), &[])], (7, 2), "").found,
            "not on PATH"
        );
    }
}
