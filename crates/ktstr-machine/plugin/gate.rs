//! Blocks QEMU's main thread while the guest executes.
//!
//! The main thread wakes up at each timer of the guest, and runs the timers that are due. The thread of the virtual
//! CPUs also runs these timers, and nearly always before the main thread. But after the end of a CPU's turn, the main
//! thread can take QEMU's big lock first. If the main thread then raises an interrupt, the turns of all CPUs end, and the
//! CPUs divide the following time differently: on a busy host about one run in thirty differed from the others
//! (`tcg-accel-ops-rr.c` and `main-loop.c` of QEMU 10.0).
//!
//! Therefore the main thread returns from its `ppoll` only while the thread of the virtual CPUs waits or is held, and that
//! thread continues from its `pthread_cond_wait` or from a hold only when the main thread waits again. This library
//! intercepts both functions of the C library, because it is loaded by `LD_PRELOAD`. Each wait for the other thread ends
//! after a second at the latest, so that a guest that hangs does not keep QEMU's monitor from answering.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

use crate::shared::{FUTEX_WAIT, FUTEX_WAKE, SYS_FUTEX, syscall};

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn eventfd(count: u32, flags: c_int) -> c_int;
    fn read(fd: c_int, to: *mut c_void, len: usize) -> isize;
    fn write(fd: c_int, from: *const c_void, len: usize) -> isize;
    fn getpid() -> c_int;
    fn pselect(
        count: c_int,
        reads: *mut FdSet,
        writes: *mut FdSet,
        others: *mut FdSet,
        timeout: *const Timespec,
        mask: *const c_void,
    ) -> c_int;
    fn pthread_mutex_unlock(mutex: *mut c_void) -> c_int;
    fn pthread_mutex_lock(mutex: *mut c_void) -> c_int;
    fn __errno_location() -> *mut c_int;
}

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

#[repr(C)]
struct FdSet([u64; 16]);

type Ppoll = unsafe extern "C" fn(*mut c_void, u64, *const c_void, *const c_void) -> c_int;
type CondWait = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int;
type Dlvsym = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> *mut c_void;

const RTLD_DEFAULT: *mut c_void = std::ptr::null_mut();
const RTLD_NEXT: *mut c_void = std::ptr::without_provenance_mut(usize::MAX);
const SYS_GETTID: c_long = 186;
const EFD_CLOEXEC_NONBLOCK: c_int = 0o2_004_000;
/// The longest wait of one thread for the other.
static LIMIT: Timespec = Timespec {
    seconds: 1,
    nanoseconds: 0,
};

/// Whether the thread of the virtual CPUs is running: 1, or 0 while it waits or is held.
static RUNNING: AtomicU32 = AtomicU32::new(0);
/// Whether the main thread is running: 1, or 0 while it waits. The word is a futex.
static ACTIVE: AtomicU32 = AtomicU32::new(0);
/// Whether the main thread waits at the gate, that is, for the thread of the virtual CPUs to wait: 1 or 0.
static AT_GATE: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Unknown,
    Main,
    Vcpus,
    Other,
}

thread_local! {
    static ROLE: Cell<Role> = const { Cell::new(Role::Unknown) };
}

/// Returns the role of the calling thread, which is kept per thread. The main thread is the one whose tid is the pid.
fn role() -> Role {
    let known = ROLE.get();
    if known != Role::Unknown {
        return known;
    }
    // SAFETY: neither call passes a pointer.
    let main = unsafe { syscall(SYS_GETTID) == c_long::from(getpid()) };
    let role = if main { Role::Main } else { Role::Other };
    ROLE.set(role);
    role
}

/// Returns whether this library intercepts QEMU's calls, which is so if the loader finds its `ppoll` before that of the C
/// library.
pub fn is_first() -> bool {
    // SAFETY: the argument is a C string.
    let found = unsafe { dlsym(RTLD_DEFAULT, c"ppoll".as_ptr()) };
    found == ppoll as *mut c_void
}

/// Marks the calling thread as the one that translates and executes guest code.
pub fn is_vcpus() {
    if role() == Role::Other {
        ROLE.set(Role::Vcpus);
        RUNNING.store(1, SeqCst);
    }
}

/// Allows the main thread to run, because the guest does not execute until [`resume`]. This does nothing in any thread other
/// than that of the virtual CPUs.
pub fn pause() {
    if ROLE.get() != Role::Vcpus {
        return;
    }
    RUNNING.store(0, SeqCst);
    if AT_GATE.load(SeqCst) != 0 {
        let one = 1_u64;
        // SAFETY: this writes eight bytes to an eventfd. If its counter is full, the eventfd is readable already.
        unsafe { write(door(), (&raw const one).cast(), 8) };
    }
}

/// Marks the guest as running. Returns true if it may continue at once, because the main thread waits.
fn go_on() -> bool {
    RUNNING.store(1, SeqCst);
    ACTIVE.load(SeqCst) == 0
}

/// Waits until the main thread waits. It gives up if a single wait on the futex takes longer than [`LIMIT`].
fn wait_for_main() {
    while ACTIVE.load(SeqCst) != 0 {
        // SAFETY: the word is static, and the timeout outlives the call.
        let ended = unsafe {
            syscall(
                SYS_FUTEX,
                ACTIVE.as_ptr(),
                FUTEX_WAIT,
                1_u32,
                &raw const LIMIT,
            )
        };
        // Any result but a timeout is a wakeup, a change before the wait, or a signal, after which the word is read again.
        // SAFETY: this reads the thread's own errno.
        if ended != 0 && unsafe { *__errno_location() } == ETIMEDOUT {
            return;
        }
    }
}

const ETIMEDOUT: c_int = 110;

/// Ends [`pause`], and waits until the main thread waits.
pub fn resume() {
    if ROLE.get() == Role::Vcpus && !go_on() {
        wait_for_main();
    }
}

/// Notes that the main thread waits, and wakes the thread of the virtual CPUs if it waits for that.
fn main_waits() {
    ACTIVE.store(0, SeqCst);
    // SAFETY: the word is static.
    unsafe { syscall(SYS_FUTEX, ACTIVE.as_ptr(), FUTEX_WAKE, 1_u32) };
}

/// Holds the main thread at the gate until the guest is not running, or until the time limit has passed.
fn pass() {
    loop {
        ACTIVE.store(1, SeqCst);
        if RUNNING.load(SeqCst) == 0 {
            return;
        }
        main_waits();
        AT_GATE.store(1, SeqCst);
        let opened = RUNNING.load(SeqCst) == 0 || wait_at_door();
        AT_GATE.store(0, SeqCst);
        if !opened {
            ACTIVE.store(1, SeqCst);
            return;
        }
    }
}

/// Waits for the door to open, at most for [`LIMIT`], and closes it again. Returns false if the limit has passed. It uses
/// neither `ppoll` nor a futex, because the host recognizes the main thread's state by these calls.
fn wait_at_door() -> bool {
    let door = door();
    let mut set = FdSet([0; 16]);
    let (word, bit) = (door as usize / 64, door as usize % 64);
    let Some(word) = set.0.get_mut(word) else {
        return false;
    };
    *word |= 1 << bit;
    let mut count = 0_u64;
    let null = std::ptr::null_mut::<FdSet>;
    // SAFETY: the set covers the descriptor, and eight bytes are read from a non-blocking eventfd.
    unsafe {
        let ready = pselect(
            door + 1,
            &raw mut set,
            null(),
            null(),
            &LIMIT,
            std::ptr::null(),
        );
        read(door, (&raw mut count).cast(), 8);
        ready != 0
    }
}

/// Returns the eventfd on which the main thread waits at the gate; a write to it opens the door.
fn door() -> c_int {
    static DOOR: OnceLock<c_int> = OnceLock::new();
    // SAFETY: the call takes no pointers.
    *DOOR.get_or_init(|| unsafe { eventfd(0, EFD_CLOEXEC_NONBLOCK) })
}

/// Returns the address of the function `name` of the C library, which comes after this library.
fn next(name: &CStr) -> usize {
    // SAFETY: the argument is a C string. The result is the next definition after this library's own.
    unsafe { dlsym(RTLD_NEXT, name.as_ptr()) as usize }
}

/// Returns the C library's `pthread_cond_wait`. On x86-64 glibc has two versions of it, and `dlsym` may find the old one,
/// of glibc 2.2.5.
fn real_cond_wait() -> CondWait {
    static REAL: OnceLock<usize> = OnceLock::new();
    let address = *REAL.get_or_init(|| {
        let name = c"pthread_cond_wait";
        // SAFETY: the arguments are C strings, and the types are those of the C library's functions.
        unsafe {
            let dlvsym = dlsym(RTLD_DEFAULT, c"dlvsym".as_ptr());
            if !dlvsym.is_null() {
                let dlvsym: Dlvsym = std::mem::transmute(dlvsym);
                let found = dlvsym(RTLD_NEXT, name.as_ptr(), c"GLIBC_2.3.2".as_ptr());
                if !found.is_null() {
                    return found as usize;
                }
            }
        }
        next(name)
    });
    // SAFETY: this is the C library's function of that name, which every process with threads has.
    unsafe { std::mem::transmute::<usize, CondWait>(address) }
}

/// # Safety
/// The same as for the C library's function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ppoll(
    fds: *mut c_void,
    count: u64,
    timeout: *const c_void,
    mask: *const c_void,
) -> c_int {
    static REAL: OnceLock<usize> = OnceLock::new();
    let address = *REAL.get_or_init(|| next(c"ppoll"));
    // SAFETY: this is the C library's function of that name.
    let real = unsafe { std::mem::transmute::<usize, Ppoll>(address) };
    if role() != Role::Main {
        // SAFETY: the caller upholds the contract of the C library's function.
        return unsafe { real(fds, count, timeout, mask) };
    }
    main_waits();
    // SAFETY: as above, and the thread's own errno is accessed.
    unsafe {
        let ready = real(fds, count, timeout, mask);
        let errno = *__errno_location();
        pass();
        *__errno_location() = errno;
        ready
    }
}

/// # Safety
/// The same as for the C library's function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_wait(cond: *mut c_void, mutex: *mut c_void) -> c_int {
    let real = real_cond_wait();
    // SAFETY: the caller holds the mutex, and a wait may end spuriously.
    unsafe {
        match role() {
            Role::Vcpus => {
                pause();
                let ended = real(cond, mutex);
                if !go_on() {
                    pthread_mutex_unlock(mutex);
                    wait_for_main();
                    pthread_mutex_lock(mutex);
                }
                ended
            }
            Role::Main => {
                main_waits();
                let ended = real(cond, mutex);
                ACTIVE.store(1, SeqCst);
                ended
            }
            Role::Unknown | Role::Other => real(cond, mutex),
        }
    }
}
