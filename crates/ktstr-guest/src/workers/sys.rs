//! The few system calls workers make, without allocation and without panics: safe to use in a
//! child forked from a process with threads.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Words of a CPU mask here: 1024 CPUs.
pub const MASK_WORDS: usize = 16;

/// A CPU mask as the kernel takes it.
pub type Mask = [u64; MASK_WORDS];

/// Guest monotonic time in nanoseconds.
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time of the calling thread in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of the calling thread in nanoseconds, before and after it leaves a mark in the exact schedule: it gives itself the
/// name that it has already, which the schedule records and nobody else notices. Reading the CPU time brings the runqueue's
/// clock up to date, so that the mark is as new as the number.
pub fn marked_cpu_ns() -> [u64; 2] {
    let mut name = [0u8; 16];
    // SAFETY: sixteen bytes, which the kernel fills and ends with a NUL (PR_GET_NAME), and reads (PR_SET_NAME).
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr(), 0, 0, 0) };
    let before = thread_cpu_ns();
    // SAFETY: as above.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
    [before, thread_cpu_ns()]
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is valid for writing; both clocks exist on every kernel this runs on.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    (ts.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(ts.tv_nsec as u64)
}

/// A `timespec` of `ns` nanoseconds.
pub fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    }
}

/// Sleeps until monotonic time `deadline_ns`; returns early when a signal is handled.
pub fn sleep_until(deadline_ns: u64) {
    let ts = timespec(deadline_ns);
    // SAFETY: `ts` is a valid timespec; no remainder is asked for with TIMER_ABSTIME.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &ts,
            std::ptr::null_mut(),
        )
    };
}

/// The CPU the caller runs on right now.
pub fn current_cpu() -> u32 {
    // SAFETY: takes nothing, returns -1 only where the call does not exist.
    let cpu = unsafe { libc::sched_getcpu() };
    if cpu < 0 { 0 } else { cpu as u32 }
}

/// Waits while `*word == expected`; returns on a wake, a change, a handled signal.
pub fn futex_wait(word: &AtomicU32, expected: u32) {
    // SAFETY: the word outlives the call; a shared (not private) futex without timeout.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            std::ptr::null::<libc::timespec>(),
        )
    };
}

/// The same for `ns` nanoseconds at most.
pub fn futex_wait_for(word: &AtomicU32, expected: u32, ns: u64) {
    let limit = timespec(ns);
    // SAFETY: the word outlives the call; the limit is on the stack.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            &raw const limit,
        )
    };
}

/// Wakes up to `count` waiters of `word`.
pub fn futex_wake(word: &AtomicU32, count: i32) {
    // SAFETY: the word is a valid address for the length of the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

/// As [`futex_wait`], as one of those that a wake with these `bits` means.
pub fn futex_wait_as(word: &AtomicU32, expected: u32, bits: u32) {
    // SAFETY: as above; the second address is of no use to this operation.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            std::ptr::null::<libc::timespec>(),
            std::ptr::null::<u32>(),
            bits,
        )
    };
}

/// Wakes all waiters of `word` that wait as one of `bits`.
pub fn futex_wake_those(word: &AtomicU32, bits: u32) {
    // SAFETY: the word is a valid address for the length of the call; the null pointers are not
    // used by this operation.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE_BITSET,
            i32::MAX,
            std::ptr::null::<libc::timespec>(),
            std::ptr::null::<u32>(),
            bits,
        )
    };
}

/// How long a try for a lock with priority inheritance lasts: the kernel starts the call anew after
/// a signal, so that a stop would not end it.
const PI_TRY_NS: u64 = 20_000_000;
/// `FUTEX_LOCK_PI2` of include/uapi/linux/futex.h: the deadline is of the monotonic clock.
const FUTEX_LOCK_PI2: i32 = 13;

/// Takes a futex with priority inheritance, which holds the owner's thread id. `false` when `stopped`
/// says so first; `Err` is the errno.
pub fn lock_pi(word: &AtomicU32, stopped: impl Fn() -> bool) -> Result<bool, i32> {
    let me = tid() as u32;
    if word.compare_exchange(0, me, Acquire, Relaxed).is_ok() {
        return Ok(true);
    }
    loop {
        if stopped() {
            return Ok(false);
        }
        let until = timespec(now_ns().wrapping_add(PI_TRY_NS));
        // SAFETY: the word outlives the call; the deadline is on the stack.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                FUTEX_LOCK_PI2,
                0,
                &raw const until,
            )
        };
        match if rc == 0 { 0 } else { errno() } {
            0 => return Ok(true),
            libc::ETIMEDOUT | libc::EINTR | libc::EAGAIN => {}
            errno => return Err(errno),
        }
    }
}

/// Gives back what [`lock_pi`] took.
pub fn unlock_pi(word: &AtomicU32) {
    if word
        .compare_exchange(tid() as u32, 0, Release, Relaxed)
        .is_err()
    {
        // SAFETY: the word is a valid address for the length of the call.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_UNLOCK_PI) };
    }
}

/// Allowed CPUs of `pid` (0 = caller); all zero if the kernel refuses.
pub fn affinity(pid: i32) -> Mask {
    let mut mask: Mask = [0; MASK_WORDS];
    // SAFETY: the buffer has the size that is passed.
    unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            pid,
            size_of::<Mask>(),
            mask.as_mut_ptr(),
        )
    };
    mask
}

/// Sets allowed CPUs of `pid` (0 = caller); `Err` is the errno.
pub fn set_affinity(pid: i32, mask: &Mask) -> Result<(), i32> {
    // SAFETY: the buffer has the size that is passed and is only read.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            pid,
            size_of::<Mask>(),
            mask.as_ptr(),
        )
    };
    if rc < 0 { Err(errno()) } else { Ok(()) }
}

/// The calling thread's errno.
pub fn errno() -> i32 {
    // SAFETY: always a valid thread-local address.
    unsafe { *libc::__errno_location() }
}

/// Number of CPUs in a mask.
pub fn mask_len(mask: &Mask) -> u32 {
    mask.iter().map(|w| w.count_ones()).sum()
}

/// The `n`-th CPU of a mask, counted from 0.
pub fn mask_nth(mask: &Mask, n: u32) -> Option<usize> {
    let mut left = n;
    for (i, word) in mask.iter().enumerate() {
        let mut rest = *word;
        while rest != 0 {
            if left == 0 {
                return Some(i * 64 + rest.trailing_zeros() as usize);
            }
            left -= 1;
            rest &= rest - 1;
        }
    }
    None
}

/// A mask of one CPU; empty when the number is past the mask's end.
pub fn mask_of(cpu: usize) -> Mask {
    let mut mask: Mask = [0; MASK_WORDS];
    if let Some(word) = mask.get_mut(cpu / 64) {
        *word = 1 << (cpu % 64);
    }
    mask
}

/// Both masks' CPUs.
pub fn mask_and(a: &Mask, b: &Mask) -> Mask {
    let mut both = *a;
    for (word, other) in both.iter_mut().zip(b) {
        *word &= other;
    }
    both
}

/// Fresh anonymous memory of `len` bytes, which is never given back; `None` where the kernel has
/// none.
pub fn map(len: usize) -> Option<&'static mut [u8]> {
    // SAFETY: a fresh private mapping of `len` bytes; unmapped when the process ends.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the mapping made above, which nobody else knows of.
    Some(unsafe { std::slice::from_raw_parts_mut(at.cast::<u8>(), len) })
}

/// The thread id of the caller.
pub fn tid() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// One of `/proc/thread-self/schedstat`'s readings.
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedStat {
    /// Time on a CPU, ns.
    pub cpu_ns: u64,
    /// Time runnable and waiting, ns.
    pub run_delay_ns: u64,
    /// Times put on a CPU.
    pub count: u64,
}

/// Reads `/proc/thread-self/schedstat` (fs/proc/base.c, `proc_pid_schedstat`); zeros where the kernel
/// has none.
pub fn schedstat() -> SchedStat {
    let mut buf = [0u8; 96];
    // SAFETY: a NUL-terminated path; the buffer has the length that is passed; fd is ours.
    let got = unsafe {
        let fd = libc::open(
            c"/proc/thread-self/schedstat".as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        );
        if fd < 0 {
            return SchedStat::default();
        }
        let got = libc::read(fd, buf.as_mut_ptr().cast(), buf.len());
        libc::close(fd);
        got
    };
    let mut fields = [0u64; 3];
    let mut at = 0usize;
    for byte in buf.iter().take(got.max(0) as usize) {
        match byte {
            b'0'..=b'9' => {
                if let Some(field) = fields.get_mut(at) {
                    *field = field.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                }
            }
            _ => at += 1,
        }
    }
    SchedStat {
        cpu_ns: fields[0],
        run_delay_ns: fields[1],
        count: fields[2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_count_and_index() {
        let mut mask = mask_of(3);
        mask[1] = 0b101;
        assert_eq!(mask_len(&mask), 3);
        assert_eq!(mask_nth(&mask, 0), Some(3));
        assert_eq!(mask_nth(&mask, 2), Some(66));
        assert_eq!(mask_nth(&mask, 3), None);
        assert_eq!(mask_len(&mask_of(4096)), 0);
    }

    #[test]
    fn own_affinity_is_not_empty_and_can_be_set_again() {
        let mask = affinity(0);
        assert!(mask_len(&mask) > 0);
        assert_eq!(set_affinity(0, &mask), Ok(()));
        assert_eq!(set_affinity(0, &[0; MASK_WORDS]), Err(libc::EINVAL));
    }

    #[test]
    fn clocks_go_forward() {
        let (a, c) = (now_ns(), thread_cpu_ns());
        sleep_until(a + 2_000_000);
        assert!(now_ns() >= a + 2_000_000);
        assert!(thread_cpu_ns() >= c);
    }
}
