//! Arithmetic with many or few instructions per cycle: wide independent chains, PAUSE loops on the two threads of a
//! core, and alternating phases of high and low IPC.

use ktstr_scenario::workload::{AluWidth, WorkType};

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
        // The emulator may switch to another vCPU at each PAUSE, so 64 of them can take milliseconds on a busy machine.
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

#[cfg(target_arch = "x86_64")]
fn has_128() -> bool {
    std::arch::is_x86_feature_detected!("sse2")
}
#[cfg(target_arch = "x86_64")]
fn has_256() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}
#[cfg(target_arch = "x86_64")]
fn has_512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}
#[cfg(not(target_arch = "x86_64"))]
fn has_128() -> bool {
    false
}
#[cfg(not(target_arch = "x86_64"))]
fn has_256() -> bool {
    false
}
#[cfg(not(target_arch = "x86_64"))]
fn has_512() -> bool {
    false
}

/// Runs six independent chains of additions in general-purpose registers. See `pure.rs` for the alignment of the loops.
#[cfg(target_arch = "x86_64")]
fn scalar(units: u64) {
    if units == 0 {
        return;
    }
    // SAFETY: the code works on registers only; the loop ends after `units` > 0 rounds.
    unsafe {
        std::arch::asm!(
            "jmp 2f",
            ".p2align 9",
            "2:",
            ".rept 10",
            "add {a}, 13849",
            "add {b}, 25173",
            "add {c}, 13849",
            "add {d}, 25173",
            "add {e}, 13849",
            "add {f}, 25173",
            ".endr",
            "dec {n}",
            "jnz 2b",
            a = inout(reg) 1u64 => _,
            b = inout(reg) 2u64 => _,
            c = inout(reg) 3u64 => _,
            d = inout(reg) 4u64 => _,
            e = inout(reg) 5u64 => _,
            f = inout(reg) 6u64 => _,
            n = inout(reg) units => _,
            options(nomem, nostack),
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn scalar(units: u64) {
    super::super::pure::spin(units);
}

macro_rules! vector {
    ($(#[$doc:meta])* $name:ident, $end:literal, $($op:literal)+) => {
        $(#[$doc])*
        #[cfg(target_arch = "x86_64")]
        fn $name(units: u64) {
            if units == 0 {
                return;
            }
            // SAFETY: the code works on registers only, and their contents do not matter. The CPU has the
            // instructions, since `of_width` checked CPUID. The loop ends after `units` > 0 rounds.
            unsafe {
                std::arch::asm!(
                    "jmp 2f",
                    ".p2align 9",
                    "2:",
                    ".rept 8",
                    $($op,)+
                    ".endr",
                    "dec {n}",
                    "jnz 2b",
                    $end,
                    n = inout(reg) units => _,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                    out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                    options(nomem, nostack),
                );
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        fn $name(units: u64) {
            scalar(units);
        }
    };
}

vector! {
    /// Runs eight independent chains of SSE2 additions.
    vec128, "",
    "paddd xmm0, xmm0" "paddd xmm1, xmm1" "paddd xmm2, xmm2" "paddd xmm3, xmm3"
    "paddd xmm4, xmm4" "paddd xmm5, xmm5" "paddd xmm6, xmm6" "paddd xmm7, xmm7"
}

vector! {
    /// Runs eight independent chains of AVX2 additions.
    vec256, "vzeroupper",
    "vpaddd ymm0, ymm0, ymm0" "vpaddd ymm1, ymm1, ymm1" "vpaddd ymm2, ymm2, ymm2"
    "vpaddd ymm3, ymm3, ymm3" "vpaddd ymm4, ymm4, ymm4" "vpaddd ymm5, ymm5, ymm5"
    "vpaddd ymm6, ymm6, ymm6" "vpaddd ymm7, ymm7, ymm7"
}

vector! {
    /// Runs eight independent chains of AVX-512F additions.
    vec512, "vzeroupper",
    "vpaddd zmm0, zmm0, zmm0" "vpaddd zmm1, zmm1, zmm1" "vpaddd zmm2, zmm2, zmm2"
    "vpaddd zmm3, zmm3, zmm3" "vpaddd zmm4, zmm4, zmm4" "vpaddd zmm5, zmm5, zmm5"
    "vpaddd zmm6, zmm6, zmm6" "vpaddd zmm7, zmm7, zmm7"
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
