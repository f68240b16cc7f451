//! Functions of a test: `WorkType::Custom`. They may allocate, because the worker is a separate
//! process and the C library keeps its allocator usable after a fork. A panic ends the process; its
//! message goes into the report.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ktstr_scenario::workload::{WorkType, WorkerCtx as Seen};

use super::super::child;
use super::super::ctx::{STOP, WorkerCtx};
use super::super::sys;
use super::super::text;
use super::super::unable::Unable;

/// Calls the function once and leaves its report for the parent.
pub(super) fn custom(ctx: &mut WorkerCtx<'_>) {
    let WorkType::Custom { run, cfg, .. } = ctx.work_type else {
        return;
    };
    let dir = match text::own_cgroup() {
        Ok(dir) => PathBuf::from(std::ffi::OsStr::from_bytes(dir.bytes())),
        Err(errno) => return ctx.unable(Unable::Cgroup, errno),
    };
    let cpus = (0..sys::mask_len(&ctx.allowed)).filter_map(|n| sys::mask_nth(&ctx.allowed, n));
    let before = ctx.base.wrapping_add(ctx.member);
    let siblings = (0..before).map(|worker| ctx.tid_of(worker));
    let seen = Seen::new(
        &STOP,
        cpus.collect(),
        siblings.collect(),
        dir,
        *cfg,
        open_for_writing,
    );
    // Replace the inherited hook, which would report a panic of the test to the host.
    std::panic::set_hook(Box::new(|info| eprintln!("ktstr: custom work: {info}")));
    let handed_over = match catch_unwind(AssertUnwindSafe(|| run(&seen))) {
        Ok(report) => match serde_json::to_vec(&report) {
            Ok(bytes) => ctx.hand_over(&bytes),
            Err(_) => Err(libc::EINVAL),
        },
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            // The panic is reported even if its message cannot be passed on.
            let _ = ctx.hand_over(text.unwrap_or_default().as_bytes());
            child::exit(child::PANICKED);
        }
    };
    if let Err(errno) = handed_over {
        ctx.unable(Unable::Report, errno);
    }
}

fn open_for_writing(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}
