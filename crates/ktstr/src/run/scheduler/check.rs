//! Checks whether a file can run as a scheduler in the guest, which has no shell and no interpreter.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ktstr_state::arch;

use crate::run::RunError;

/// Returns an error if the file at `path` cannot run in the guest. The error starts with `role`, which is where the
/// path comes from.
pub(super) fn usable(path: &Path, role: &str) -> Result<(), RunError> {
    match problem(path) {
        None => Ok(()),
        Some((found, advice)) => Err(RunError::SchedulerUnusable {
            role: role.to_owned(),
            path: path.to_owned(),
            found,
            advice,
        }),
    }
}

/// Returns what is wrong with a file, and how to fix it; `None` if the file can run in the guest.
fn problem(path: &Path) -> Option<(String, String)> {
    const NAME_A_FILE: &str = "give the path of the scheduler's binary";
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Some(("there is no such file".to_owned(), NAME_A_FILE.to_owned()));
        }
        Err(error) => {
            let found = format!("it cannot be looked at: {error}");
            return Some((found, NAME_A_FILE.to_owned()));
        }
    };
    if meta.is_dir() {
        return Some(("it is a folder".to_owned(), NAME_A_FILE.to_owned()));
    }
    if !meta.is_file() {
        return Some((
            "it is not a regular file".to_owned(),
            NAME_A_FILE.to_owned(),
        ));
    }
    let mut head = Vec::new();
    // The field `e_machine` of an ELF header ends at byte 20.
    let read = File::open(path).and_then(|file| file.take(20).read_to_end(&mut head));
    if let Err(error) = read {
        return Some((
            format!("it cannot be read: {error}"),
            "make it readable for this user".to_owned(),
        ));
    }
    if head.starts_with(b"#!") {
        return Some((
            "it is a script, and the guest has no interpreter to run it".to_owned(),
            "name the binary that the script starts".to_owned(),
        ));
    }
    if !is_of_this_architecture(&head) {
        return Some((
            format!("it is not an {} ELF program", arch::NAME),
            format!("{NAME_A_FILE}, built for {} Linux", arch::NAME),
        ));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Some((
            "it is not executable".to_owned(),
            "run chmod +x on it".to_owned(),
        ));
    }
    None
}

/// Returns whether these are the first 20 bytes of a 64-bit, little-endian ELF file for this architecture.
fn is_of_this_architecture(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF\x02\x01")
        && head.get(18..20) == Some(&arch::ELF_MACHINE.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_unusable_file_is_refused_with_its_reason() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str, content: &[u8], mode| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("writable");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("own");
            path
        };
        let own = std::env::current_exe().expect("our binary");
        let program = std::fs::read(&own).expect("readable");
        let cases = [
            (folder.path().join("none"), "there is no such file"),
            (folder.path().to_owned(), "it is a folder"),
            ("/dev/null".into(), "it is not a regular file"),
            (file("empty", b"", 0o755), "it is not an x86-64 ELF program"),
            (file("script", b"#!/bin/sh\n", 0o755), "it is a script"),
            (file("quiet", b"#!/bin/sh\n", 0o644), "it is a script"),
            (file("plain", &program, 0o644), "it is not executable"),
            (own.join("below"), "it cannot be looked at"),
        ];
        for (path, found) in cases {
            let error = usable(&path, "KTSTR_SCHEDULER").expect_err(found);
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("KTSTR_SCHEDULER: `{}`", path.display())),
                "{text}"
            );
            assert!(text.contains(found), "{text}");
            assert_eq!(error.exit_code(), 1);
        }
        assert!(usable(&file("good", &program, 0o755), "x").is_ok());
    }
}
