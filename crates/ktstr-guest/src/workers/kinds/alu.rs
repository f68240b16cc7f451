//! Arithmetic with many or few instructions per cycle: wide independent chains, PAUSE loops on the two threads of a
//! core, and alternating phases of high and low IPC.

use ktstr_scenario::workload::{AluWidth, WorkType};

use super::super::arch::{has_128, has_256, has_512, scalar, vec128, vec256, vec512};
use super::super::ctx::{CHECKPOINT_UNITS, WorkerCtx};
use super::super::sys;
use super::super::text::{self, Text};
use super::super::unable::Unable;

/// A function that does work in registers of one width. A unit is some 64 instructions.
pub(super) type Hot = fn(u64);

/// Returns the code for a width. `Err` is the reason why there is none: the CPU lacks the width, or the width is AMX.
pub(super) fn of_width(width: AluWidth) -> Result<Hot, Unable> {
    let checked = |has: bool, hot: Hot| if has { Ok(hot) } else { Err(Unable::Width) };
    match width {
        AluWidth::Scalar => Ok(scalar),
        AluWidth::Vec128 => checked(has_128(), vec128),
        AluWidth::Vec256 => checked(has_256(), vec256),
        AluWidth::Vec512 => checked(has_512(), vec512),
        AluWidth::Amx => Err(Unable::Tiles),
        AluWidth::Widest => Ok(match (has_512(), has_256(), has_128()) {
            (true, ..) => vec512,
            (_, true, _) => vec256,
            (.., true) => vec128,
            _ => scalar,
        }),
    }
}

/// Runs independent chains of arithmetic in registers of the work type's width.
pub(super) fn alu_hot(ctx: &mut WorkerCtx<'_>) {
    let WorkType::AluHot { width } = ctx.work_type else {
        return;
    };
    match of_width(*width) {
        Ok(hot) => {
            while !ctx.stopped() {
                hot(CHECKPOINT_UNITS);
                ctx.count_units(CHECKPOINT_UNITS);
                ctx.iteration();
            }
        }
        Err(why) => ctx.unable(why, 0),
    }
}

/// Pins itself to one thread of a core and spins with PAUSE; its partner is pinned to the other thread.
pub(super) fn smt_sibling_spin(ctx: &mut WorkerCtx<'_>) {
    let pair = ctx.base / 2;
    let Some(cpu) = sibling(ctx, pair) else {
        return ctx.unable(Unable::Sibling, 0);
    };
    if let Err(errno) = sys::set_affinity(0, &sys::mask_of(cpu)) {
        return ctx.unable(Unable::Sibling, errno);
    }
    while !ctx.stopped() {
        for _ in 0..64 {
            std::hint::spin_loop();
        }
        ctx.count_units(1);
        // Take a checkpoint after each unit: the emulator may switch to another vCPU at each PAUSE, so 64 of them can take
        // milliseconds on a busy machine.
        ctx.checkpoint();
        ctx.iteration();
    }
}

/// Returns the CPU of this member on the core of its pair. Pairs are assigned round-robin to the cores of which the
/// worker may use at least two threads; `None` if there is no such core.
fn sibling(ctx: &WorkerCtx<'_>, pair: usize) -> Option<usize> {
    let core = |n: usize| -> Option<sys::Mask> {
        let mut seen = 0;
        for at in 0..sys::mask_len(&ctx.allowed) {
            let cpu = sys::mask_nth(&ctx.allowed, at)?;
            let mut path = Text::of(b"/sys/devices/system/cpu/cpu");
            path.number(cpu as u64)
                .push(b"/topology/thread_siblings_list");
            let Ok(list) = path.read() else { continue };
            let threads = sys::mask_and(&text::cpulist(list.bytes()), &ctx.allowed);
            // Count each core once, at its first thread.
            if sys::mask_len(&threads) >= 2 && sys::mask_nth(&threads, 0) == Some(cpu) {
                if seen == n {
                    return Some(threads);
                }
                seen += 1;
            }
        }
        None
    };
    let cores = (0..).take_while(|n| core(*n).is_some()).count();
    let threads = core(pair.checked_rem(cores)?)?;
    sys::mask_nth(&threads, ctx.member as u32)
}

/// Size of the memory that the cold loads read, in bytes.
const COLD_BYTES: usize = 4 << 20;
/// Size of a cache line in bytes.
const LINE: usize = 64;

/// Alternates arithmetic with dependent loads, each of which needs the result of the load before it. Parameters:
/// instructions of arithmetic (rounded up to units), loads, and how many times each iteration repeats both.
pub(super) fn ipc_variance(ctx: &mut WorkerCtx<'_>) {
    let [hot, cold, rounds, _] = ctx.params;
    let Some(lines) = sys::map(COLD_BYTES) else {
        return ctx.unable(Unable::Memory, sys::errno());
    };
    let count = COLD_BYTES / LINE;
    for (at, line) in lines.chunks_exact_mut(LINE).enumerate() {
        // This linear congruential generator visits every line (Hull and Dobell 1962).
        let next = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) % count;
        if let Some(first) = line.first_chunk_mut() {
            *first = (next as u32).to_ne_bytes();
        }
    }
    let mut at = 0usize;
    while !ctx.stopped() {
        for _ in 0..rounds {
            scalar(hot.div_ceil(64));
            ctx.count_units(hot.div_ceil(64));
            for _ in 0..cold {
                let start = at.wrapping_mul(LINE);
                let line = lines.get(start..).and_then(|rest| rest.first_chunk());
                at = line.map_or(0, |bytes| u32::from_ne_bytes(*bytes) as usize);
            }
            at = std::hint::black_box(at);
            if ctx.stopped() {
                break;
            }
        }
        ctx.iteration();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_width_runs_or_says_that_the_cpu_lacks_it() {
        let widths = [
            (AluWidth::Scalar, true),
            (AluWidth::Vec128, has_128()),
            (AluWidth::Vec256, has_256()),
            (AluWidth::Vec512, has_512()),
            (AluWidth::Widest, true),
        ];
        for (width, has) in widths {
            match of_width(width) {
                Ok(hot) => {
                    assert!(has, "{width:?}");
                    hot(0);
                    hot(3);
                }
                Err(why) => assert_eq!((has, why), (false, Unable::Width), "{width:?}"),
            }
        }
        assert_eq!(of_width(AluWidth::Amx).err(), Some(Unable::Tiles));
    }
}
