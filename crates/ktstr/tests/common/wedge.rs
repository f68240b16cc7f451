//! Blocks CPUs of the guest with a BPF program that loops where the kernel has interrupts disabled, either practically forever
//! or for about a second.

// The recorder of fixtures uses only a part of this module.
#![allow(dead_code)]

use std::ffi::CStr;
use std::io::{Error, Result};
use std::os::fd::{FromRawFd, OwnedFd};

/// Kernel limit of the iterations of one `bpf_loop` (`include/linux/bpf.h`, `BPF_MAX_LOOPS`).
const MAX_LOOPS: i32 = 8 << 20;
const BPF_PROG_LOAD: i32 = 5;
const BPF_RAW_TRACEPOINT_OPEN: i32 = 17;
const BPF_BTF_LOAD: i32 = 18;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const BPF_PSEUDO_FUNC: u8 = 4;
const HELPER_CPU: i32 = 8;
const HELPER_LOOP: i32 = 181;

/// Loads a program and attaches it to `sched_switch`, a tracepoint that runs with the runqueue locked, so that each CPU is
/// blocked at its next switch. Needs root.
pub fn loop_with_interrupts_off() -> Result<()> {
    // Three functions: the program, which has the outer loop; the body of that loop, which has the inner loop; and the empty
    // body of the inner loop.
    let code = [call_loop(8), nothing(), call_loop(8), nothing(), nothing()].concat();
    // Each function has two numbers: its first instruction, and its type in `types`.
    let program = attach(c"sched_switch", &code, &[0, 5, 8, 6, 16, 6])?;
    std::mem::forget(program);
    Ok(())
}

/// Makes each timer interrupt of `cpu` take as long as two loops with the largest number of iterations ([`MAX_LOOPS`]),
/// until the returned descriptor is dropped. No lock is held during that time, so the other CPUs continue, even if they need
/// that CPU's runqueue.
pub fn slow_ticks(cpu: u32) -> Result<OwnedFd> {
    // `if (bpf_get_smp_processor_id() != cpu) return 0`, then two loops, one after the other, with the same empty body.
    let over_the_loops = (2 * LOOP) << 16;
    let program = [
        vec![
            insn(0x85, 0, 0, HELPER_CPU),
            insn(0x55, 0, 0, cpu as i32) | over_the_loops,
        ],
        call_loop(2 * LOOP as i32 + 2),
        call_loop(LOOP as i32 + 2),
        nothing(),
        nothing(),
    ];
    let functions = [0, 5, 4 + 2 * LOOP as u32, 6];
    attach(c"hrtimer_expire_entry", &program.concat(), &functions)
}

/// Loads the program `code` and attaches it to the tracepoint. `functions` has the first instruction and the type of each
/// function. The program stays attached until the returned descriptor is closed.
fn attach(tracepoint: &CStr, code: &[u64], functions: &[u32]) -> Result<OwnedFd> {
    let btf = types();
    let btf = bpf(BPF_BTF_LOAD, &[address(&btf), 0, btf.len() as u64])?;
    // The attributes of `BPF_PROG_LOAD` (`union bpf_attr`): prog_type and insn_cnt, insns, license, log_level and log_size,
    // log_buf.
    let licence = c"GPL";
    let mut log = vec![0u8; 1 << 16];
    let mut attributes = vec![0u64; 18];
    attributes[0] = pair(BPF_PROG_TYPE_RAW_TRACEPOINT, code.len() as u32);
    attributes[1] = address(code);
    attributes[2] = licence.as_ptr() as u64;
    attributes[3] = pair(1, log.len() as u32);
    attributes[4] = log.as_mut_ptr() as u64;
    // prog_btf_fd and func_info_rec_size, func_info, func_info_cnt.
    attributes[9] = pair(btf as u32, 8);
    attributes[10] = address(functions);
    attributes[11] = functions.len() as u64 / 2;
    let program = bpf(BPF_PROG_LOAD, &attributes).map_err(|error| {
        let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
        Error::other(format!("{error}: {}", String::from_utf8_lossy(&log[..end])))
    })?;
    let hung = bpf(
        BPF_RAW_TRACEPOINT_OPEN,
        &[tracepoint.as_ptr() as u64, program as u64],
    )?;
    // SAFETY: the kernel just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(hung) })
}

/// Returns the instructions of a function that only returns 0.
fn nothing() -> Vec<u64> {
    vec![insn(0xb7, 0, 0, 0), insn(0x95, 0, 0, 0)]
}

/// The number of instructions of [`call_loop`].
const LOOP: u64 = 6;

/// Returns the instructions of `bpf_loop(MAX_LOOPS, body, 0, 0)`, where `body` is the function whose first instruction comes
/// `after` instructions after the first one here.
fn call_loop(after: i32) -> Vec<u64> {
    vec![
        insn(0xb7, 1, 0, MAX_LOOPS),
        // This instruction takes entries 1 and 2 of the list, counted from 0. The offset counts from entry 2.
        insn(0x18, 2, BPF_PSEUDO_FUNC, after - 2),
        0,
        insn(0xb7, 3, 0, 0),
        insn(0xb7, 4, 0, 0),
        insn(0x85, 0, 0, HELPER_LOOP),
    ]
}

/// Returns one instruction (`include/uapi/linux/bpf.h`, struct `bpf_insn`) without an offset.
fn insn(code: u8, dst: u8, src: u8, imm: i32) -> u64 {
    u64::from(code) | u64::from(dst | src << 4) << 8 | u64::from(imm as u32) << 32
}

/// Returns the BTF of `int program(void *)` and of `int body(int, void *)`, which is the type that a callback of `bpf_loop`
/// must have.
fn types() -> Vec<u8> {
    let (int, pointer, function, prototype) = (1 << 24, 2 << 24, 12 << 24, 13 << 24);
    let strings = b"\0int\0program\0body\0x\0";
    let mut words: Vec<u32> = Vec::new();
    words.extend([1, int, 4, 1 << 24 | 32]); // 1: int
    words.extend([0, pointer, 0]); // 2: void *
    words.extend([0, prototype | 1, 1, 18, 2]); // 3: int (void *x)
    words.extend([0, prototype | 2, 1, 18, 1, 18, 2]); // 4: int (int x, void *x)
    words.extend([5, function, 3]); // 5: program
    words.extend([13, function, 4]); // 6: body
    let length = words.len() as u32 * 4;
    let mut btf = Vec::new();
    btf.extend(0xeb9f_u16.to_le_bytes());
    btf.extend([1, 0]);
    for word in [24, 0, length, length, strings.len() as u32] {
        btf.extend(u32::to_le_bytes(word));
    }
    btf.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    btf.extend(strings);
    btf
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn address<T>(of: &[T]) -> u64 {
    of.as_ptr() as u64
}

fn bpf(command: i32, attributes: &[u64]) -> Result<i32> {
    // SAFETY: the attributes hold addresses of buffers that live until the call returns, with their lengths.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_ptr(),
            size_of_val(attributes),
        )
    };
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(result as i32)
}
