//! Functions of a test: `WorkType::Custom`. They may allocate: the worker is a process of its own,
//! and the C library keeps its allocator usable after a fork. A panic ends the worker, and its
//! report says so.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ktstr_scenario::workload::{WorkType, WorkerCtx as Seen};

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
    let report = run(&seen);
    if let Err(errno) = ctx.hand_over(&report) {
        ctx.unable(Unable::Report, errno);
    }
}

fn open_for_writing(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}
