//! The few system calls that workers make. They neither allocate nor panic, so they may be used in a child forked from
//! a process with several threads.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Number of words of a CPU mask, enough for 1024 CPUs.
pub const MASK_WORDS: usize = 16;

/// A CPU mask in the kernel's format.
pub type Mask = [u64; MASK_WORDS];

/// Returns the guest's monotonic time in nanoseconds.
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Returns the CPU time of the calling thread in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Returns the CPU time of another worker in nanoseconds, or 0 if there is none with this thread id. The worker is a thread of
/// the caller's process, or the only thread of another process.
pub fn cpu_ns_of(tid: i32) -> u64 {
    // The id of such a clock is the complement of the thread id, followed by a number in the last three bits (CPUCLOCK_SCHED
    // is 2, CPUCLOCK_PERTHREAD_MASK is 4; include/linux/posix-timers_types.h). The clock of a thread can be read only in the
    // same process; for a worker that is another process, the clock of that process is read.
    let clock = |number: i32| (!tid << 3) | number;
    match (tid, clock_ns(clock(2 | 4))) {
        (0, _) => 0,
        (_, 0) => clock_ns(clock(2)),
        (_, ns) => ns,
    }
}

/// Sets a mark in the exact schedule, which the host records under the virtual clock. Returns the CPU time of the calling thread
/// in nanoseconds before and after the mark. The mark is a change of the thread's name to the same name: the schedule records
/// this change, and it has no other effect. Reading the CPU time also updates the run queue's clock, so the mark and the CPU time
/// belong to the same moment.
pub fn marked_cpu_ns() -> [u64; 2] {
    let mut name = [0u8; 16];
    // SAFETY: sixteen bytes, which the kernel fills and terminates with a NUL (PR_GET_NAME), and reads (PR_SET_NAME).
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
    // If the clock belongs to a worker that does not exist, `ts` stays 0.
    // SAFETY: `ts` is valid for writing.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    (ts.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(ts.tv_nsec as u64)
}

/// Converts `ns` nanoseconds to a `timespec`.
pub fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    }
}

/// Sleeps until the monotonic time `deadline_ns`. Returns early when a signal is handled.
pub fn sleep_until(deadline_ns: u64) {
    let ts = timespec(deadline_ns);
    // SAFETY: `ts` is a valid timespec; TIMER_ABSTIME does not use the remainder.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &ts,
            std::ptr::null_mut(),
        )
    };
}

/// Returns the CPU that the caller is running on.
pub fn current_cpu() -> u32 {
    // SAFETY: the call takes no arguments and returns -1 only where it does not exist.
    let cpu = unsafe { libc::sched_getcpu() };
    if cpu < 0 { 0 } else { cpu as u32 }
}

/// Blocks until a wake on the word or until a signal is handled. Returns at once if `*word` is not `expected`.
pub fn futex_wait(word: &AtomicU32, expected: u32) {
    // SAFETY: the word outlives the call; a shared futex without a timeout.
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

/// Waits like [`futex_wait`], for at most `ns` nanoseconds.
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

/// Wakes up to `count` waiters on `word`.
pub fn futex_wake(word: &AtomicU32, count: i32) {
    // SAFETY: the word is a valid address for the duration of the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

/// Waits like [`futex_wait`], with a bit mask by which [`futex_wake_those`] selects waiters.
pub fn futex_wait_as(word: &AtomicU32, expected: u32, bits: u32) {
    // SAFETY: as above; this operation does not use the second address.
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

/// Wakes all waiters on `word` whose mask has one of `bits`.
pub fn futex_wake_those(word: &AtomicU32, bits: u32) {
    // SAFETY: the word is a valid address for the duration of the call; this operation does not use the null pointers.
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

/// Timeout in ns of one attempt to take a lock with priority inheritance. The kernel restarts the call after a signal, so a
/// worker that is told to stop notices this only after the timeout.
const PI_TRY_NS: u64 = 20_000_000;
/// `FUTEX_LOCK_PI2` from include/uapi/linux/futex.h, whose deadline is on the monotonic clock.
const FUTEX_LOCK_PI2: i32 = 13;

/// Takes a futex with priority inheritance; its word holds the owner's thread id. Returns `false` if `stopped` returns
/// `true` first. `Err` is the errno.
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

/// Releases a futex that was taken by [`lock_pi`].
pub fn unlock_pi(word: &AtomicU32) {
    if word
        .compare_exchange(tid() as u32, 0, Release, Relaxed)
        .is_err()
    {
        // SAFETY: the word is a valid address for the duration of the call.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_UNLOCK_PI) };
    }
}

/// Returns the allowed CPUs of a thread, where 0 stands for the caller. The mask is empty if the kernel refuses.
pub fn affinity(tid: i32) -> Mask {
    let mut mask: Mask = [0; MASK_WORDS];
    // SAFETY: the buffer has the size that is passed.
    unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            tid,
            size_of::<Mask>(),
            mask.as_mut_ptr(),
        )
    };
    mask
}

/// Sets the allowed CPUs of a thread, where 0 stands for the caller. `Err` is the errno.
pub fn set_affinity(tid: i32, mask: &Mask) -> Result<(), i32> {
    // SAFETY: the buffer has the size that is passed and is only read.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            tid,
            size_of::<Mask>(),
            mask.as_ptr(),
        )
    };
    if rc < 0 { Err(errno()) } else { Ok(()) }
}

/// Returns the calling thread's errno.
pub fn errno() -> i32 {
    // SAFETY: the address is always valid and thread-local.
    unsafe { *libc::__errno_location() }
}

/// Returns the number of CPUs in a mask.
pub fn mask_len(mask: &Mask) -> u32 {
    mask.iter().map(|w| w.count_ones()).sum()
}

/// Returns the `n`-th CPU of a mask, counted from 0; `None` if the mask has fewer CPUs.
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

/// Returns a mask of one CPU. It is empty if the number does not fit into a mask.
pub fn mask_of(cpu: usize) -> Mask {
    let mut mask: Mask = [0; MASK_WORDS];
    if let Some(word) = mask.get_mut(cpu / 64) {
        *word = 1 << (cpu % 64);
    }
    mask
}

/// Returns a mask of these CPUs, without those that do not fit into a mask.
pub fn mask_of_all(cpus: &std::collections::BTreeSet<usize>) -> Mask {
    let mut mask: Mask = [0; MASK_WORDS];
    for cpu in cpus {
        if let Some(word) = mask.get_mut(cpu / 64) {
            *word |= 1 << (cpu % 64);
        }
    }
    mask
}

/// Returns the intersection of two masks.
pub fn mask_and(a: &Mask, b: &Mask) -> Mask {
    let mut both = *a;
    for (word, other) in both.iter_mut().zip(b) {
        *word &= other;
    }
    both
}

/// Maps `len` bytes of fresh anonymous memory, which are never unmapped. Returns `None` if the kernel does not have enough
/// memory.
pub fn map(len: usize) -> Option<&'static mut [u8]> {
    // SAFETY: a fresh private mapping of `len` bytes, which lives as long as the process.
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
    // SAFETY: the mapping was created above, and nothing else refers to it.
    Some(unsafe { std::slice::from_raw_parts_mut(at.cast::<u8>(), len) })
}

/// Returns the NUMA node of each of these pages of a process, which are given by their addresses. Pages whose node the kernel
/// does not tell are left out.
pub fn nodes_of_pages(pid: i32, pages: &[u64]) -> Vec<usize> {
    let mut nodes: Vec<i32> = vec![-1; pages.len()];
    // SAFETY: both arrays have as many elements as the call is told. The call moves no page, because it gets no target nodes.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            pid,
            pages.len(),
            pages.as_ptr(),
            std::ptr::null::<i32>(),
            nodes.as_mut_ptr(),
            0,
        )
    };
    if rc < 0 {
        return Vec::new();
    }
    // A negative number is an errno.
    let known = nodes.into_iter().map(usize::try_from);
    known.filter_map(Result::ok).collect()
}

/// Returns the thread id of the caller.
pub fn tid() -> i32 {
    // SAFETY: the call takes no arguments and cannot fail.
    unsafe { libc::gettid() }
}

/// Returns the number of times that the caller has blocked (`ru_nvcsw` of getrusage(2)).
pub fn blocked() -> u64 {
    // SAFETY: all-zero is a valid value of the structure, which the call fills in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
        usage
    };
    usage.ru_nvcsw.cast_unsigned()
}

/// The contents of `/proc/thread-self/schedstat`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedStat {
    /// Time on a CPU in ns.
    pub cpu_ns: u64,
    /// Time runnable without running, in ns.
    pub run_delay_ns: u64,
    /// Number of times that the thread was put on a CPU.
    pub count: u64,
}

/// Reads `/proc/thread-self/schedstat` (fs/proc/base.c, `proc_pid_schedstat`). All values are 0 if the kernel does not
/// have this file.
pub fn schedstat() -> SchedStat {
    let mut buf = [0u8; 96];
    // SAFETY: a NUL-terminated path; the buffer has the length that is passed; the descriptor is our own.
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
