//! Functions of a test: `WorkType::Custom`. They may allocate: the worker is a process of its own,
//! and the C library keeps its allocator usable after a fork. A panic ends the process, and the
//! report has its message.

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

/// Calls the function once and leaves its report where the parent finds it.
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
    // The hook that came with the fork tells the host of a panic of the test.
    std::panic::set_hook(Box::new(|info| eprintln!("ktstr: custom work: {info}")));
    let handed_over = match catch_unwind(AssertUnwindSafe(|| run(&seen))) {
        Ok(report) => match serde_json::to_vec(&report) {
            Ok(bytes) => ctx.hand_over(&bytes),
            Err(_) => Err(libc::EINVAL),
        },
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            // Without its words it is a panic all the same.
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
