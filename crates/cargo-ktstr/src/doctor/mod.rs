//! `cargo ktstr doctor`: lists each requirement, whether it is met, and what to do if it is not.

mod host;
mod permissions;
mod tools;

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use crate::exit::Exit;
use crate::json::{self, Limit};

/// Whether a requirement is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// The requirement is met.
    Found,
    /// The requirement is not met, and tests need it.
    Missing,
    /// The check only informs: no test depends on it.
    Info,
}

/// The result of checking one requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    /// The name of the requirement.
    name: &'static str,
    status: Status,
    /// What was found on the host, as a text for people.
    found: String,
    /// What to do about an unmet requirement; `None` if there is nothing to do.
    todo: Option<String>,
}

impl Check {
    fn found(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Found,
            found: found.into(),
            todo: None,
        }
    }

    fn missing(name: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Missing,
            found: found.into(),
            todo: Some(todo.into()),
        }
    }

    fn info(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Info,
            found: found.into(),
            todo: None,
        }
    }
}

/// Checks all requirements and prints the results. Returns [`Exit::Host`] if anything is missing.
pub fn run(out: &mut dyn Write, json: bool, limit: Limit) -> Result<Exit> {
    let mut checks = tools::checks();
    checks.extend(host::checks());
    checks.extend(permissions::checks());
    if json {
        json::print(out, &checks, limit)?;
    } else {
        write!(out, "{}", render(&checks))?;
    }
    let missing = checks.iter().any(|check| check.status == Status::Missing);
    Ok(if missing { Exit::Host } else { Exit::Done })
}

fn render(checks: &[Check]) -> String {
    let width = checks
        .iter()
        .map(|check| check.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for Check {
        name,
        status,
        found,
        todo,
    } in checks
    {
        let mark = match status {
            Status::Found => "found  ",
            Status::Missing => "MISSING",
            Status::Info => "info   ",
        };
        text.push_str(&format!("{mark}  {name:width$}  {found}\n"));
        if let Some(todo) = todo {
            text.push_str(&format!("{:indent$}  → {todo}\n", "", indent = 9 + width));
        }
    }
    let missing = checks
        .iter()
        .filter(|check| check.status == Status::Missing)
        .count();
    text.push_str(&match missing {
        0 => "\nNothing is missing.\n".to_owned(),
        n => format!("\n{n} missing. On Debian 12 or 13, `make deps` installs the packages.\n"),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page() {
        let checks = [
            Check::found("QEMU ≥ 10", "10.0.2, /usr/bin/qemu-system-x86_64"),
            Check::missing("clang ≥ 17", "14.0.6, /usr/bin/clang", "install clang-19"),
            Check::info("KVM", "no /dev/kvm: guests run in software"),
        ];
        insta::assert_snapshot!(render(&checks), @r"
        found    QEMU ≥ 10   10.0.2, /usr/bin/qemu-system-x86_64
        MISSING  clang ≥ 17  14.0.6, /usr/bin/clang
                             → install clang-19
        info     KVM         no /dev/kvm: guests run in software

        1 missing. On Debian 12 or 13, `make deps` installs the packages.
        ");
    }
}
