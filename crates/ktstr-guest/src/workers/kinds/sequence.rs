//! A loop over several phases of work: `WorkType::Sequence`.

use std::time::Duration;

use ktstr_scenario::workload::{WorkPhase, WorkType};

use super::super::ctx::WorkerCtx;
use super::super::sys;
use super::super::unable::Unable;
use super::{alu, io, ns};

/// Runs `first`, then `rest`, repeatedly. An iteration is one pass through all phases.
pub(super) fn sequence(ctx: &mut WorkerCtx<'_>) {
    let WorkType::Sequence { first, rest } = ctx.work_type else {
        return;
    };
    let phases = || std::iter::once(first).chain(rest);
    let mut file = None;
    if phases().any(|phase| matches!(phase, WorkPhase::Io(_))) {
        match io::Scratch::new(ctx.disk_part(), libc::O_RDWR, 0) {
            Ok(scratch) => file = Some(scratch),
            Err(errno) => return ctx.unable(Unable::File, errno),
        }
    }
    while !ctx.stopped() {
        for phase in phases() {
            if let Err((why, errno)) = run(ctx, phase, file.as_ref()) {
                return ctx.unable(why, errno);
            }
        }
        // Count a unit for each pass, because phases may do nothing but sleep.
        ctx.count_units(1);
        ctx.iteration();
    }
}

fn run(
    ctx: &mut WorkerCtx<'_>,
    phase: &WorkPhase,
    file: Option<&io::Scratch>,
) -> Result<(), (Unable, i32)> {
    let until = |length: &Duration| sys::now_ns().saturating_add(ns(*length));
    match phase {
        WorkPhase::Spin(length) => ctx.work_until(until(length)),
        WorkPhase::Sleep(length) => {
            if !ctx.stopped() {
                ctx.sleep(ns(*length));
            }
        }
        WorkPhase::Yield(length) => {
            let end = until(length);
            while !ctx.stopped() && sys::now_ns() < end {
                ctx.work(16);
                super::cpu::sched_yield();
            }
        }
        WorkPhase::Io(length) => {
            let end = until(length);
            let mut block = 0;
            while let (false, true, Some(file)) = (ctx.stopped(), sys::now_ns() < end, file) {
                file.write(block)
                    .and_then(|()| file.sync())
                    .map_err(|errno| (Unable::File, errno))?;
                block += 1;
                ctx.count_units(1);
            }
            ctx.checkpoint();
        }
        WorkPhase::AluHot { width, duration } => {
            let hot = alu::of_width(*width).map_err(|why| (why, 0))?;
            let end = until(duration);
            while !ctx.stopped() && sys::now_ns() < end {
                hot(64);
                ctx.count_units(64);
            }
        }
    }
    Ok(())
}
