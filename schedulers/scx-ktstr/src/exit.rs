// SPDX-License-Identifier: GPL-2.0-only
//! Why the kernel detached the scheduler, and what follows from it.

use crate::skel::types::ktstr_exit;
use std::ffi::CStr;
use std::fmt;

/// `SCX_EXIT_UNREG` (`kernel/sched/ext_internal.h`, before 6.18 `kernel/sched/ext.c`): user space
/// unregistered the scheduler.
const EXIT_UNREG: i32 = 64;

/// `SCX_ECODE_ACT_RESTART`: the kernel asks for a restart, because a CPU went online or offline.
const CODE_ACT_RESTART: i64 = 1 << 48;

/// A copy of the exit record that `ktstr_exit` in `bpf/main.bpf.c` filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    /// The kind of the exit, a value of `enum scx_exit_kind`.
    pub(crate) kind: i32,
    /// The exit code from `scx_exit_info.exit_code`.
    pub(crate) code: i64,
    /// The kernel's text for the kind.
    pub(crate) reason: String,
    /// The kernel's description of this particular error.
    pub(crate) message: String,
    /// The kernel's dump of run queues and tasks at the time of the exit.
    pub(crate) dump: String,
}

impl Exit {
    /// Reads the record. Returns `None` while the scheduler is attached.
    pub(crate) fn read(record: &ktstr_exit) -> Option<Self> {
        // SAFETY: the reference is valid. The read is volatile because the BPF part writes the record
        // concurrently. It writes the kind last.
        let kind = unsafe { std::ptr::read_volatile(&record.kind) };
        if kind == 0 {
            return None;
        }
        Some(Self {
            kind,
            code: record.code,
            reason: text(&record.reason),
            message: text(&record.msg),
            dump: text(&record.dump),
        })
    }

    /// Returns whether the scheduler was unregistered normally rather than ejected.
    pub(crate) fn is_clean(&self) -> bool {
        self.kind == EXIT_UNREG
    }

    /// Returns whether the kernel asks for the scheduler to be loaded again.
    pub(crate) fn wants_restart(&self) -> bool {
        self.code & CODE_ACT_RESTART != 0
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit kind {}: {}", self.kind, self.reason)?;
        if !self.message.is_empty() {
            write!(f, " ({})", self.message)?;
        }
        if self.code != 0 {
            write!(f, ", exit code {:#x}", self.code)?;
        }
        Ok(())
    }
}

/// Returns the text up to the first NUL, or all of it if there is none.
fn text(bytes: &[i8]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|byte| byte.cast_unsigned()).collect();
    let bytes = CStr::from_bytes_until_nul(&bytes).map_or(&*bytes, CStr::to_bytes);
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(kind: i32, code: i64, message: &str) -> Exit {
        Exit {
            kind,
            code,
            reason: "runnable task stall".into(),
            message: message.into(),
            dump: String::new(),
        }
    }

    #[test]
    fn only_unregistration_is_clean() {
        assert!(exit(64, 0, "").is_clean());
        assert!(!exit(65, 0, "").is_clean());
        assert!(!exit(1026, 0, "").is_clean());
    }

    #[test]
    fn restart_is_a_bit_of_the_code() {
        assert!(exit(66, (1 << 48) | (1 << 32), "").wants_restart());
        assert!(!exit(66, 1 << 32, "").wants_restart());
    }

    #[test]
    fn one_line_says_why() {
        insta::assert_snapshot!(exit(1026, 0, "a[7] failed to run for 20.1s"),
            @"exit kind 1026: runnable task stall (a[7] failed to run for 20.1s)");
        insta::assert_snapshot!(exit(66, 1 << 32, ""),
            @"exit kind 66: runnable task stall, exit code 0x100000000");
    }

    #[test]
    fn text_ends_at_the_first_nul_or_at_the_end() {
        assert_eq!(text(&[97, 98, 0, 99]), "ab");
        assert_eq!(text(&[97, 98]), "ab");
        assert_eq!(text(&[]), "");
    }
}
