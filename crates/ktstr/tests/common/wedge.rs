//! Taking a CPU away from the guest's kernel for good: a BPF program that loops, for longer than
//! anybody waits, where the kernel has interrupts switched off.

use std::io::{Error, Result};

/// Kernel limit of the iterations of one `bpf_loop` (include/linux/bpf.h, BPF_MAX_LOOPS).
const MAX_LOOPS: i32 = 8 << 20;
const BPF_PROG_LOAD: i32 = 5;
const BPF_RAW_TRACEPOINT_OPEN: i32 = 17;
const BPF_BTF_LOAD: i32 = 18;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const BPF_PSEUDO_FUNC: u8 = 4;
const HELPER_LOOP: i32 = 181;

/// Loads the program and hangs it on `sched_switch`, which the kernel reports with the run queue
/// locked: the next switch of this CPU is its last. Needs root and one CPU to wedge the machine.
pub fn loop_with_interrupts_off() -> Result<()> {
    let btf = types();
    let btf = bpf(BPF_BTF_LOAD, &[address(&btf), 0, btf.len() as u64])?;
    // Three functions: the program, which calls the first loop; its body, which calls the second;
    // an empty body.
    let code = [
        call_loop(),
        call_loop(),
        vec![insn(0xb7, 0, 0, 0), insn(0x95, 0, 0, 0)],
    ]
    .concat();
    // For each: its first instruction and its type.
    let functions: Vec<u32> = vec![0, 5, 8, 6, 16, 6];
    let licence = c"GPL";
    let mut log = vec![0u8; 1 << 16];
    let mut attributes = vec![0u64; 18];
    attributes[0] = pair(BPF_PROG_TYPE_RAW_TRACEPOINT, code.len() as u32);
    attributes[1] = address(&code);
    attributes[2] = licence.as_ptr() as u64;
    attributes[3] = pair(1, log.len() as u32);
    attributes[4] = log.as_mut_ptr() as u64;
    // prog_btf_fd and func_info_rec_size, func_info, func_info_cnt.
    attributes[9] = pair(btf as u32, 8);
    attributes[10] = address(&functions);
    attributes[11] = 3;
    let program = bpf(BPF_PROG_LOAD, &attributes).map_err(|error| {
        let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
        Error::other(format!("{error}: {}", String::from_utf8_lossy(&log[..end])))
    })?;
    bpf(
        BPF_RAW_TRACEPOINT_OPEN,
        &[c"sched_switch".as_ptr() as u64, program as u64],
    )?;
    Ok(())
}

/// `bpf_loop(MAX_LOOPS, next, 0, 0); return 0`, where `next` is the function that follows.
fn call_loop() -> Vec<u64> {
    vec![
        insn(0xb7, 1, 0, MAX_LOOPS),
        insn(0x18, 2, BPF_PSEUDO_FUNC, 6),
        0,
        insn(0xb7, 3, 0, 0),
        insn(0xb7, 4, 0, 0),
        insn(0x85, 0, 0, HELPER_LOOP),
        insn(0xb7, 0, 0, 0),
        insn(0x95, 0, 0, 0),
    ]
}

/// One instruction (include/uapi/linux/bpf.h, struct bpf_insn) without an offset.
fn insn(code: u8, dst: u8, src: u8, imm: i32) -> u64 {
    u64::from(code) | u64::from(dst | src << 4) << 8 | u64::from(imm as u32) << 32
}

/// BTF of `int program(void *)` and `int body(u32, void *)`, which callbacks must have.
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
    // SAFETY: the attributes hold addresses of buffers that live until the call returns, with
    // their lengths.
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
