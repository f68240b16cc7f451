//! Work on memory: page faults, and a region that moves between NUMA nodes.

use ktstr_scenario::workload::WorkType;

use super::super::arch;
use super::super::ctx::WorkerCtx;
use super::super::mem;
use super::super::sys::{self, MASK_WORDS, Mask};
use super::super::unable::Unable;

const PAGE: usize = 4096;

/// Touches pages that are not present, and gives them back after each cycle. Parameters: size of the region in KiB,
/// pages touched per cycle, work units after each page.
pub(super) fn page_fault_churn(ctx: &mut WorkerCtx<'_>) {
    let [kib, touches, units, _] = ctx.params;
    let len = region(kib);
    let Some(region) = sys::map(len) else {
        return ctx.unable(Unable::Memory, sys::errno());
    };
    let touches = touches.min((len / PAGE) as u64) as usize;
    let mut from = 0usize;
    while !ctx.stopped() {
        for n in 0..touches {
            let at = from.wrapping_add(n).wrapping_mul(PAGE) % len;
            if let Some(byte) = region.get_mut(at) {
                *std::hint::black_box(byte) = 1;
            }
            ctx.work(units);
            ctx.count_units(1);
            if ctx.stopped() {
                return;
            }
        }
        from = from.wrapping_add(touches) % (len / PAGE);
        // SAFETY: the range is the whole of our own mapping, and its contents are not needed any more.
        unsafe { libc::madvise(region.as_mut_ptr().cast(), len, libc::MADV_DONTNEED) };
        ctx.iteration();
        ctx.checkpoint();
    }
}

/// In each period, binds a region to the next of the target NUMA nodes, moves the pages of the region there, touches all of them,
/// and sleeps until the next period. Parameters: size of the region in KiB, period in ns.
pub(super) fn numa_sweep(ctx: &mut WorkerCtx<'_>) {
    let WorkType::NumaWorkingSetSweep { target_nodes, .. } = ctx.work_type else {
        return;
    };
    let [kib, period, ..] = ctx.params;
    let len = region(kib);
    let Some(region) = sys::map(len) else {
        return ctx.unable(Unable::Memory, sys::errno());
    };
    let mut nodes = target_nodes.iter().cycle();
    let mut due = sys::now_ns();
    while !ctx.stopped() {
        if let Some(node) = nodes.next() {
            let mut mask: Mask = [0; MASK_WORDS];
            match mask.get_mut(node / 64) {
                Some(word) => *word = 1 << (node % 64),
                None => return ctx.unable(Unable::MemPolicy, libc::EINVAL),
            }
            if let Err(errno) = mem::bind_region(region, &mask) {
                return ctx.unable(Unable::MemPolicy, errno);
            }
        }
        ctx.count_units(arch::touch(region, PAGE));
        ctx.iteration();
        ctx.checkpoint();
        due = due.saturating_add(period);
        let left = due.saturating_sub(sys::now_ns());
        if left == 0 {
            // The sweep took longer than a period, so the next period starts now.
            due = sys::now_ns();
        } else if !ctx.stopped() {
            ctx.sleep(left);
        }
    }
}

/// Converts a size in KiB to bytes in whole pages. The result is at least 4 KiB and at most 1 GiB.
fn region(kib: u64) -> usize {
    (kib.clamp(4, 1 << 20) as usize)
        .wrapping_mul(1024)
        .next_multiple_of(PAGE)
}
