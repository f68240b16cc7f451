//! Maps the control page, the trace and the events, and holds the guest until the host releases it through the page.

use std::ffi::{c_int, c_long, c_void};
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::control::{Control, Event, HEADER, MAGIC, Reason, Switch};

unsafe extern "C" {
    fn mmap(
        at: *mut c_void,
        len: usize,
        prot: c_int,
        flags: c_int,
        fd: c_int,
        off: i64,
    ) -> *mut c_void;
    pub(crate) fn syscall(number: c_long, ...) -> c_long;
}

const PROT_READ_WRITE: c_int = 3;
const MAP_SHARED: c_int = 1;
pub(crate) const SYS_FUTEX: c_long = 202;
pub(crate) const FUTEX_WAIT: c_int = 0;
pub(crate) const FUTEX_WAKE: c_int = 1;

/// The control page, followed by the trace and the events.
pub struct Shared {
    control: &'static Control,
    trace: &'static [Switch],
    events: &'static [Event],
}

impl Shared {
    /// Maps the file at `path`. The error describes what is wrong with the file.
    pub fn map(path: &str) -> Result<Self, String> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|e| format!("cannot open {path}: {e}"))?;
        let len = file.metadata().map_err(|e| e.to_string())?.len() as usize;
        if len < HEADER {
            return Err(format!("{path} has {len} bytes, {HEADER} are needed"));
        }
        // SAFETY: this is a new mapping of a file that is long enough, and it is never unmapped. The page is aligned, and
        // every bit pattern is a valid `Control`, `Switch` and `Event`, because these contain only atomics.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                PROT_READ_WRITE,
                MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if base as isize == -1 {
            return Err(format!("cannot map {path}"));
        }
        // SAFETY: as above.
        let control = unsafe { &*base.cast::<Control>() };
        if control.magic.load(Ordering::Acquire) != MAGIC {
            return Err(format!("{path} is not a control page of this version"));
        }
        let wanted = control.trace_capacity.load(Ordering::Relaxed) as usize;
        let entries = wanted.min((len - HEADER) / size_of::<Switch>());
        // SAFETY: `entries` fit between the header and the end of the mapping.
        let trace = unsafe { std::slice::from_raw_parts(base.add(HEADER).cast(), entries) };
        let start = HEADER + entries * size_of::<Switch>();
        let wanted = control.event_capacity.load(Ordering::Relaxed) as usize;
        let entries = wanted.min((len - start) / size_of::<Event>());
        // SAFETY: as above; the trace's end is aligned for an event's words.
        let events = unsafe { std::slice::from_raw_parts(base.add(start).cast(), entries) };
        Ok(Self {
            control,
            trace,
            events,
        })
    }

    /// Returns the control page, through which the host and the plugin control each other.
    pub fn control(&self) -> &'static Control {
        self.control
    }

    /// Returns the trace of the first context switches.
    pub fn trace(&self) -> &'static [Switch] {
        self.trace
    }

    /// Returns the buffer for events.
    pub fn events(&self) -> &'static [Event] {
        self.events
    }

    /// Reports `reason`, `cpu` and `args` to the host, and blocks until the host releases the guest.
    ///
    /// The blocked thread is the one that executes all virtual CPUs and owns virtual time. It does not hold QEMU's big
    /// lock, so the monitor continues to answer.
    pub fn hold(&self, reason: Reason, cpu: u32, args: [u64; 2]) {
        let c = self.control;
        c.reason.store(reason as u32, Ordering::Relaxed);
        c.cpu.store(cpu, Ordering::Relaxed);
        for (word, arg) in c.args.iter().zip(args) {
            word.store(arg, Ordering::Relaxed);
        }
        let number = c.held.load(Ordering::Relaxed).wrapping_add(1);
        crate::gate::pause();
        c.held.store(number, Ordering::Release);
        futex(&c.held, FUTEX_WAKE, u32::MAX >> 1);
        loop {
            let released = c.released.load(Ordering::Acquire);
            if released == number {
                break;
            }
            futex(&c.released, FUTEX_WAIT, released);
        }
        crate::gate::resume();
    }
}

fn futex(word: &AtomicU32, operation: c_int, value: u32) {
    // SAFETY: the word outlives the call, and there is no timeout. The caller's loop handles spurious returns.
    unsafe {
        syscall(
            SYS_FUTEX,
            word.as_ptr(),
            operation,
            value,
            std::ptr::null::<c_void>(),
        );
    }
}
