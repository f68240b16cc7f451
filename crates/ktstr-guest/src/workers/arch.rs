//! The work loops: all code of the workers that depends on the architecture. On x86-64 they are written in assembly, so that
//! the same instructions run whatever profile the crate was built with, and the iterations of two builds can be compared.
//! `ktstr_state::arch` says what another architecture needs.
//!
//! The loops are aligned, and most are unrolled, because of how QEMU executes them. QEMU translates code in blocks that
//! end at a branch. When it counts instructions, each block costs some 20 host cycles before its first instruction: the
//! block loads a counter of which the previous block has just stored one half, and the host CPU cannot forward that store
//! to the load. A loop of 4 instructions spends three quarters of the host's time on this, a loop of 64 hardly any. A
//! block also ends at the end of a page, and a jump to a loop's start in another page needs a table look-up. The loops
//! are therefore aligned to more than their size, so that each lies within one page wherever the linker places it.

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use portable::*;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::*;

/// The loops in assembly.
#[cfg(target_arch = "x86_64")]
mod x86_64 {
    /// Does `units` units of work. A unit has 64 instructions in two chains of multiplications and additions, and takes a
    /// CPU some 64 cycles.
    pub(crate) fn spin(units: u64) {
        if units == 0 {
            return;
        }
        // SAFETY: the code works on registers only; the loop ends after `units` > 0 rounds.
        unsafe {
            std::arch::asm!(
                "jmp 2f",
                ".p2align 9",
                "2:",
                ".rept 15",
                "imul {x}, {x}, 25173",
                "imul {y}, {y}, 25173",
                "add {x}, 13849",
                "add {y}, 13849",
                ".endr",
                "imul {x}, {x}, 25173",
                "add {x}, 13849",
                "dec {n}",
                "jnz 2b",
                x = inout(reg) 1u64 => _,
                y = inout(reg) 2u64 => _,
                n = inout(reg) units => _,
                options(nomem, nostack),
            );
        }
    }

    /// Number of bytes that one round of the loop below touches.
    const ROUND: usize = 16;

    /// Adds one to every `stride`th byte of `buffer`, starting with the first, with two instructions each. Returns the
    /// number of these bytes.
    pub(crate) fn touch(buffer: &mut [u8], stride: usize) -> u64 {
        let stride = stride.max(1);
        let count = buffer.len().div_ceil(stride);
        // SAFETY: the loops touch `count` bytes, a stride apart. By the division above, the last of them is inside the
        // buffer. No pointer beyond it is dereferenced.
        unsafe {
            std::arch::asm!(
                "test {rounds}, {rounds}",
                "jz 3f",
                ".p2align 7",
                "2:",
                ".rept 16",
                "inc byte ptr [{at}]",
                "add {at}, {stride}",
                ".endr",
                "dec {rounds}",
                "jnz 2b",
                "3:",
                "test {rest}, {rest}",
                "jz 5f",
                "4:",
                "inc byte ptr [{at}]",
                "add {at}, {stride}",
                "dec {rest}",
                "jnz 4b",
                "5:",
                at = inout(reg) buffer.as_mut_ptr() => _,
                stride = in(reg) stride,
                rounds = inout(reg) count / ROUND => _,
                rest = inout(reg) count % ROUND => _,
                options(nostack),
            );
        }
        count as u64
    }

    /// Returns the dot product of two rows of 64-bit numbers, with wrapping arithmetic.
    pub(crate) fn dot(a: &[u8], b: &[u8]) -> u64 {
        let count = a.len().min(b.len()) / 8;
        if count == 0 {
            return 0;
        }
        let mut sum = 0u64;
        // SAFETY: reads `count` > 0 numbers of each row, all of which are inside by the division above.
        unsafe {
            std::arch::asm!(
                ".p2align 6",
                "2:",
                "mov {x}, qword ptr [{a}]",
                "imul {x}, qword ptr [{b}]",
                "add {sum}, {x}",
                "add {a}, 8",
                "add {b}, 8",
                "dec {n}",
                "jnz 2b",
                x = out(reg) _,
                a = inout(reg) a.as_ptr() => _,
                b = inout(reg) b.as_ptr() => _,
                n = inout(reg) count => _,
                sum = inout(reg) sum,
                options(nostack, readonly),
            );
        }
        sum
    }

    /// Whether the CPU has registers of 128 bits and the instructions of [`vec128`].
    pub(crate) fn has_128() -> bool {
        std::arch::is_x86_feature_detected!("sse2")
    }
    /// Whether the CPU has registers of 256 bits and the instructions of [`vec256`].
    pub(crate) fn has_256() -> bool {
        std::arch::is_x86_feature_detected!("avx2")
    }
    /// Whether the CPU has registers of 512 bits and the instructions of [`vec512`].
    pub(crate) fn has_512() -> bool {
        std::arch::is_x86_feature_detected!("avx512f")
    }

    /// Runs six independent chains of additions in general-purpose registers.
    pub(crate) fn scalar(units: u64) {
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

    macro_rules! vector {
        ($(#[$doc:meta])* $name:ident, $end:literal, $($op:literal)+) => {
            $(#[$doc])*
            pub(crate) fn $name(units: u64) {
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
                        // `vzeroupper` clears the upper halves of these, too.
                        out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                        options(nomem, nostack),
                    );
                }
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
}

/// The loops in Rust for other architectures. Tests run them too.
#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    /// Does `units` units of work.
    pub(crate) fn spin(units: u64) {
        let (mut x, mut y) = (1u64, 2u64);
        for _ in 0..units.wrapping_mul(15) {
            x = std::hint::black_box(x.wrapping_mul(25173).wrapping_add(13849));
            y = std::hint::black_box(y.wrapping_mul(25173).wrapping_add(13849));
        }
        std::hint::black_box((x, y));
    }

    /// Adds one to every `stride`th byte of `buffer`.
    pub(crate) fn touch(buffer: &mut [u8], stride: usize) -> u64 {
        let mut count = 0u64;
        for byte in buffer.iter_mut().step_by(stride.max(1)) {
            *byte = std::hint::black_box(byte.wrapping_add(1));
            count = count.wrapping_add(1);
        }
        count
    }

    /// Returns the dot product of two rows.
    pub(crate) fn dot(a: &[u8], b: &[u8]) -> u64 {
        let word = |bytes: &[u8]| {
            bytes
                .first_chunk()
                .map_or(0, |word| u64::from_ne_bytes(*word))
        };
        a.chunks_exact(8)
            .zip(b.chunks_exact(8))
            .fold(0, |sum, (x, y)| {
                sum.wrapping_add(word(x).wrapping_mul(word(y)))
            })
    }

    /// Does `units` units of arithmetic in general-purpose registers.
    pub(crate) fn scalar(units: u64) {
        spin(units);
    }

    macro_rules! vector {
        ($(#[$doc:meta])* $has:ident, $hot:ident) => {
            $(#[$doc])*
            pub(crate) fn $has() -> bool {
                false
            }
            /// Does the work of [`scalar`]. No worker calls this function, because the check for this width always fails.
            pub(crate) fn $hot(units: u64) {
                scalar(units);
            }
        };
    }

    vector! {
        /// Whether there is code for registers of 128 bits.
        has_128, vec128
    }
    vector! {
        /// Whether there is code for registers of 256 bits.
        has_256, vec256
    }
    vector! {
        /// Whether there is code for registers of 512 bits.
        has_512, vec512
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_the_stride_is_touched_once_and_no_other() {
        for len in [1, 2, 15, 16, 17, 64, 1000, 4096] {
            for stride in [1, 3, 16, 64, 999, 5000] {
                // One more byte on either side detects an access outside of the range.
                let mut expected = vec![0u8; len + 2];
                for byte in expected[1..=len].iter_mut().step_by(stride) {
                    *byte = 1;
                }
                let ones: u64 = expected.iter().map(|byte| u64::from(*byte)).sum();
                for touch in [touch, portable::touch] {
                    let mut bytes = vec![0u8; len + 2];
                    let count = touch(&mut bytes[1..=len], stride);
                    assert_eq!(bytes, expected, "{len} bytes, stride {stride}");
                    assert_eq!(count, ones, "{len} bytes, stride {stride}");
                }
            }
        }
        assert_eq!((touch(&mut [], 64), portable::touch(&mut [], 64)), (0, 0));
    }

    #[test]
    fn rows_are_multiplied() {
        let row =
            |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|w| w.to_ne_bytes()).collect() };
        for dot in [dot, portable::dot] {
            assert_eq!(dot(&row(&[1, 2, 3]), &row(&[4, 5, 6])), 32);
            assert_eq!(dot(&row(&[u64::MAX]), &row(&[2])), u64::MAX - 1);
            assert_eq!(dot(&row(&[7, 7]), &row(&[1])), 7);
            assert_eq!(dot(&[], &row(&[1])), 0);
        }
    }

    #[test]
    fn each_loop_ends() {
        let of_any_cpu = [spin, scalar];
        let portable = [
            portable::spin,
            portable::scalar,
            portable::vec128,
            portable::vec256,
            portable::vec512,
        ];
        for hot in of_any_cpu.into_iter().chain(portable) {
            hot(0);
            hot(3);
        }
    }

    #[test]
    fn without_assembly_no_cpu_has_wide_registers() {
        let has = [portable::has_128, portable::has_256, portable::has_512];
        assert_eq!(has.map(|has| has()), [false; 3]);
    }
}
