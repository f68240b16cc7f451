//! The programs and libraries that building and running need.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ktstr_machine::{Qemu, TRIED_QEMU};
use ktstr_state::{arch, env};

use super::Check;

/// The oldest clang whose BPF target compiles the scheduler.
const CLANG_MIN: Version = (17, 0);
/// The names that the scheduler's build script tries, in its order.
const CLANGS: [&str; 8] = [
    "clang-19", "clang-20", "clang-21", "clang-22", "clang-18", "clang-17", "clang", "clang-23",
];

type Version = (u32, u32);

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![rust()];
    checks.extend(qemu());
    checks.extend([
        clang(),
        match on_path("pkg-config") {
            Some(path) => Check::found("pkg-config", path.display().to_string()),
            None => Check::missing("pkg-config", "not on PATH", "install pkg-config"),
        },
        library("libelf", "libelf-dev"),
        library("zlib", "zlib1g-dev"),
    ]);
    checks
}

fn rust() -> Check {
    let min = version_in(env!("CARGO_PKG_RUST_VERSION")).unwrap_or((1, 91));
    let todo = format!(
        "install Rust {}.{} or newer, e.g. `rustup update stable`",
        min.0, min.1
    );
    judge("Rust", &[("rustc".into(), &["--version"])], min, &todo)
}

/// Checks the QEMU that a run would use, found by the same search.
fn qemu() -> Vec<Check> {
    let todo = format!(
        "install QEMU for {} (Debian: package {}; on Debian 12 from bookworm-backports)",
        arch::NAME,
        arch::QEMU_PACKAGE
    );
    match Qemu::find() {
        Ok(found) => vec![version_of(&found), sandbox_of(&found)],
        Err(error) => vec![Check::missing(QEMU, error.to_string(), todo)],
    }
}

/// The name of the requirement; a test asserts that its number is [`ktstr_machine::OLDEST_QEMU`].
const QEMU: &str = "QEMU ≥ 10";

fn version_of(qemu: &Qemu) -> Check {
    let found = format!("{}, {}", qemu.version, qemu.path.display());
    if qemu.is_tried() {
        return Check::found(QEMU, found);
    }
    let [first, last] = TRIED_QEMU.map(|(major, minor)| format!("{major}.{minor}"));
    let range = if first == last {
        first
    } else {
        format!("{first} to {last}")
    };
    Check {
        todo: Some(format!(
            "if runs of one seed differ, take QEMU {range}, which ktstr is tried with (KTSTR_QEMU)"
        )),
        ..Check::info(
            QEMU,
            format!("{found}: newer than the versions that ktstr is tested with"),
        )
    }
}

fn sandbox_of(qemu: &Qemu) -> Check {
    let name = "QEMU's sandbox";
    match qemu.knows_sandbox() {
        Ok(()) => Check::found(
            name,
            "built in: seccomp confines the QEMU process of each machine",
        ),
        Err(printed) => Check {
            todo: Some("install a QEMU that is built with libseccomp (Debian's is)".to_owned()),
            ..Check::info(name, format!("refused, so guests run without: {printed}"))
        },
    }
}

/// Checks the clang that builds the BPF part of scx-ktstr: only `BPF_CLANG` if that is set, as in the build script.
fn clang() -> Check {
    clang_of(env::BPF_CLANG.get(), "clang ≥ 17")
}

fn clang_of(named: Option<PathBuf>, name: &'static str) -> Check {
    let all = || CLANGS.map(PathBuf::from).to_vec();
    let candidates: Vec<(PathBuf, &[&str])> = named
        .map_or_else(all, |named| vec![named])
        .into_iter()
        .map(|name| (name, &["--version"] as &[&str]))
        .collect();
    judge(
        name,
        &candidates,
        CLANG_MIN,
        "install clang (Debian 12: clang-19; Debian 13: clang), or name one with BPF_CLANG",
    )
}

/// Checks for a program. The check names the first candidate that is new enough. If there is none, the check is `Missing`,
/// and names the first candidate that is too old, if there is one.
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

/// Returns the path of `program` on `PATH`, or `program` itself if it has more than one component; `None` if there is
/// no such file.
pub(super) fn on_path(program: impl AsRef<Path>) -> Option<PathBuf> {
    let program = program.as_ref();
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_path_buf());
    }
    std::env::split_paths(&env::PATH.get()?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Returns the standard output of a program; `None` if it does not start or does not exit with 0.
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

/// Returns the first `major.minor` in the version output of a program; `None` if there is none.
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
    fn a_qemu_newer_than_the_tried_ones_comes_with_advice() {
        let of = |version: &str| {
            version_of(&Qemu {
                path: "/q".into(),
                version: version.into(),
            })
        };
        assert_eq!(of("10.0.2"), Check::found(QEMU, "10.0.2, /q"));
        assert_eq!(QEMU, format!("QEMU ≥ {}", ktstr_machine::OLDEST_QEMU));
        let newer = of("10.1.0");
        assert_eq!(newer.status, Status::Info);
        assert!(newer.todo.unwrap().contains("take QEMU 10.0,"));
    }

    #[test]
    fn a_named_clang_is_the_only_one_asked() {
        let check = clang_of(Some("/nonexistent/clang".into()), "clang");
        assert_eq!(check.status, Status::Missing);
        assert!(check.todo.unwrap().contains("BPF_CLANG"));
    }

    /// The build script cannot be called, so its text is compared.
    #[test]
    fn clang_is_looked_for_as_the_build_script_does() {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schedulers/scx-ktstr/build.rs");
        // A packaged crate has no such file.
        let Ok(script) = fs::read_to_string(script) else {
            return;
        };
        assert!(script.contains(&format!("const MIN_CLANG: u32 = {};", CLANG_MIN.0)));
        let (_, list) = script.split_once("const CLANGS: [&str; 8] = [").unwrap();
        let (list, _) = list.split_once(']').unwrap();
        let names: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
        assert_eq!(names, CLANGS);
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
