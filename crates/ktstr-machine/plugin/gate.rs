//! Keeps QEMU's main thread still while the guest executes.
//!
//! That thread is woken at each timer of the guest, and runs what timers it finds due. The thread of the virtual CPUs runs
//! them too, and in nearly all cases first. But between the end of a CPU's turn and its lock both can be there, and an
//! interrupt that the main thread raises ends the turns of all CPUs, so that they part the next stretch of time otherwise:
//! on a busy host one run in some thirty was not like the others (tcg-accel-ops-rr.c, main-loop.c, of QEMU 10.0).
//!
//! So the main thread goes on from its `ppoll` only while the other one waits for something or is held, and the other goes
//! on only when the main thread is back. Both calls are QEMU's into the C library: loaded by `LD_PRELOAD`, this library
//! comes first. Each wait ends after a second at the latest: a guest that hangs must not keep QEMU's monitor from answering.

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
static LIMIT: Timespec = Timespec {
    seconds: 1,
    nanoseconds: 0,
};

/// Whether the virtual CPUs' thread is between two waits.
static RUNNING: AtomicU32 = AtomicU32::new(0);
/// Whether the main thread is between two waits.
static ACTIVE: AtomicU32 = AtomicU32::new(0);
/// Whether the main thread waits at the gate.
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

fn role() -> Role {
    let known = ROLE.get();
    if known != Role::Unknown {
        return known;
    }
    // SAFETY: neither has an argument.
    let main = unsafe { syscall(SYS_GETTID) == c_long::from(getpid()) };
    let role = if main { Role::Main } else { Role::Other };
    ROLE.set(role);
    role
}

/// Whether QEMU's calls come here.
pub fn is_first() -> bool {
    // SAFETY: a C string.
    let found = unsafe { dlsym(RTLD_DEFAULT, c"ppoll".as_ptr()) };
    found == ppoll as *mut c_void
}

/// Called on the thread that translates and executes guest code.
pub fn is_vcpus() {
    if role() == Role::Other {
        ROLE.set(Role::Vcpus);
        RUNNING.store(1, SeqCst);
    }
}

/// The guest stands: the main thread may run.
pub fn pause() {
    if ROLE.get() != Role::Vcpus {
        return;
    }
    RUNNING.store(0, SeqCst);
    if AT_GATE.load(SeqCst) != 0 {
        let one = 1_u64;
        // SAFETY: eight bytes to an eventfd; a full counter is readable already.
        unsafe { write(door(), (&raw const one).cast(), 8) };
    }
}

/// The guest goes on as soon as the main thread waits. `true`: it does already.
fn go_on() -> bool {
    RUNNING.store(1, SeqCst);
    ACTIVE.load(SeqCst) == 0
}

fn wait_for_main() {
    while ACTIVE.load(SeqCst) != 0 {
        // SAFETY: a static word, and a timeout that outlives the call.
        let ended = unsafe {
            syscall(
                SYS_FUTEX,
                ACTIVE.as_ptr(),
                FUTEX_WAIT,
                1_u32,
                &raw const LIMIT,
            )
        };
        // Woken or changed is 0 or EAGAIN; what else there is, is a time-out or a signal.
        // SAFETY: the thread's own errno.
        if ended != 0 && unsafe { *__errno_location() } == ETIMEDOUT {
            return;
        }
    }
}

const ETIMEDOUT: c_int = 110;

/// The end of [`pause`].
pub fn resume() {
    if ROLE.get() == Role::Vcpus && !go_on() {
        wait_for_main();
    }
}

fn main_waits() {
    ACTIVE.store(0, SeqCst);
    // SAFETY: a static word.
    unsafe { syscall(SYS_FUTEX, ACTIVE.as_ptr(), FUTEX_WAKE, 1_u32) };
}

/// Lets the main thread go on when the guest stands.
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

/// Not in `ppoll` nor in a futex: by these the host sees what the main thread waits for.
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
    // SAFETY: a set that covers the descriptor; eight bytes from an eventfd that does not block.
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

fn door() -> c_int {
    static DOOR: OnceLock<c_int> = OnceLock::new();
    // SAFETY: no pointers.
    *DOOR.get_or_init(|| unsafe { eventfd(0, EFD_CLOEXEC_NONBLOCK) })
}

fn next(name: &CStr) -> usize {
    // SAFETY: a C string. The next definition after this library's own.
    unsafe { dlsym(RTLD_NEXT, name.as_ptr()) as usize }
}

/// The C library has two of these, and `dlsym` may find the one of 2002.
fn real_cond_wait() -> CondWait {
    static REAL: OnceLock<usize> = OnceLock::new();
    let address = *REAL.get_or_init(|| {
        let name = c"pthread_cond_wait";
        // SAFETY: C strings; the function's type is the C library's.
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
    // SAFETY: the C library's function of that name, which every process with threads has.
    unsafe { std::mem::transmute::<usize, CondWait>(address) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ppoll(
    fds: *mut c_void,
    count: u64,
    timeout: *const c_void,
    mask: *const c_void,
) -> c_int {
    static REAL: OnceLock<usize> = OnceLock::new();
    let address = *REAL.get_or_init(|| next(c"ppoll"));
    // SAFETY: the C library's function of that name.
    let real = unsafe { std::mem::transmute::<usize, Ppoll>(address) };
    if role() != Role::Main {
        // SAFETY: the caller's promise.
        return unsafe { real(fds, count, timeout, mask) };
    }
    main_waits();
    // SAFETY: the caller's promise; the thread's own errno.
    unsafe {
        let ready = real(fds, count, timeout, mask);
        let errno = *__errno_location();
        pass();
        *__errno_location() = errno;
        ready
    }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_wait(cond: *mut c_void, mutex: *mut c_void) -> c_int {
    let real = real_cond_wait();
    // SAFETY: the caller's promise: it holds the mutex, and a wait may end for no reason.
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
