//! The guest's end of the mailbox: guest-physical pages mapped through `/dev/mem`.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ktstr_mailbox::{
    CALL_MESSAGE, Layout, MARKER, MailboxMemory, Reader, Ring, WriteError, Writer,
};

use crate::link::Link;
use crate::protocol::{ANSWER_AT, ANSWER_LENGTH_AT, Answer, Ask, MAX_ANSWER, ToGuest, ToHost};

/// The mailbox, mapped into this process.
#[derive(Debug)]
pub struct Mapped {
    start: *mut u8,
}

// SAFETY: the mapping is never moved or unmapped, and every access to it is a copy through a raw pointer or an atomic.
// The rings define which side writes which bytes.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps the guest-physical range that is reserved for the mailbox.
    pub fn open() -> std::io::Result<Self> {
        let memory = File::options().read(true).write(true).open("/dev/mem")?;
        // SAFETY: a fresh mapping at an address that the kernel chooses. The kernel's command line reserves the range,
        // so nothing else uses it.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                Layout::SIZE as usize,
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::SHARED,
                memory.as_fd(),
                Layout::BASE,
            )?
        };
        // Keep the mapping out of forked processes, which never use the mailbox. The kernel would copy 2048 page table entries
        // at each fork of a worker and remove them at the worker's exit, which costs more than all the rest of its start.
        // SAFETY: the mapping was just made, and its content is not changed.
        unsafe {
            rustix::mm::madvise(
                start,
                Layout::SIZE as usize,
                rustix::mm::Advice::LinuxDontFork,
            )?;
        }
        Ok(Self {
            start: start.cast(),
        })
    }

    fn at(&self, offset: u64, len: usize) -> std::io::Result<*mut u8> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= Layout::SIZE => {
                // SAFETY: within the mapping, as just checked.
                Ok(unsafe { self.start.add(offset as usize) })
            }
            _ => Err(Error::from(ErrorKind::InvalidInput)),
        }
    }

    fn position(&self, offset: u64) -> std::io::Result<&AtomicU64> {
        if !offset.is_multiple_of(8) {
            return Err(Error::from(ErrorKind::InvalidInput));
        }
        let at = self.at(offset, 8)?.cast::<u64>();
        // SAFETY: aligned (page start plus a multiple of eight), within the mapping, which
        // lives as long as the process, and only ever accessed atomically.
        Ok(unsafe { AtomicU64::from_ptr(at) })
    }
}

impl Mapped {
    /// Returns the first `len` bytes of the bulk window. The host does not write to the window until the guest has
    /// reported that it has taken these bytes.
    pub fn bulk(&self, len: u64) -> std::io::Result<&[u8]> {
        if len > Layout::BULK_SIZE {
            return Err(Error::from(ErrorKind::InvalidInput));
        }
        let start = self.at(Layout::BULK, len as usize)?;
        // SAFETY: within the mapping, which lives as long as the process. Nobody writes to the window between the
        // host's message and our answer.
        Ok(unsafe { std::slice::from_raw_parts(start, len as usize) })
    }
}

impl MailboxMemory for Mapped {
    type Error = Error;

    fn read(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        let from = self.at(offset, buf.len())?;
        // SAFETY: `from` is valid for `buf.len()` bytes; `buf` is a separate allocation of ours.
        unsafe { std::ptr::copy_nonoverlapping(from, buf.as_mut_ptr(), buf.len()) };
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let to = self.at(offset, bytes.len())?;
        // SAFETY: `to` is valid for `bytes.len()` bytes; `bytes` is a separate allocation of ours.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }

    fn load(&self, offset: u64) -> std::io::Result<u64> {
        Ok(self.position(offset)?.load(Ordering::Acquire))
    }

    fn store(&self, offset: u64, value: u64) -> std::io::Result<()> {
        self.position(offset)?.store(value, Ordering::Release);
        Ok(())
    }
}

/// Calls the host. Under the virtual clock the guest is paused until the host has polled the mailbox; on the real
/// clock this does nothing.
///
/// This function is never inlined, so that its return ends the block of instructions that contains the call. If the host
/// stops the machine in the call, for instance to save a template, the machine stops only at the end of that block. An inlined
/// call would let the block read the mailbox before the stop, and so miss what the host writes during the stop.
#[inline(never)]
pub fn call_host(argument: u64) {
    // SAFETY: the instruction exchanges a register with itself, which has no effect.
    unsafe {
        core::arch::asm!(
            ".byte 0x66, 0x87, 0xdb",
            in("rax") MARKER,
            in("rdi") argument,
            in("rsi") 0u64,
            options(nostack, preserves_flags)
        );
    }
}

/// Guest time that the host may take to answer. Under the virtual clock, no guest time passes meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The guest's link to the host: a ring that only this process writes.
#[derive(Debug)]
pub struct MailLink {
    region: Mapped,
    /// The process that writes the ring. A process that it forks has no mailbox.
    owner: u32,
    writer: Mutex<Writer>,
    /// The number of requests so far. The lock is held while a request waits for its answer.
    asked: Mutex<u64>,
}

impl MailLink {
    /// Creates a link that sends through `ring`.
    pub fn new(region: Mapped, ring: Ring) -> Self {
        Self {
            region,
            owner: std::process::id(),
            writer: Mutex::new(Writer::new(ring)),
            asked: Mutex::new(0),
        }
    }
}

impl Link for MailLink {
    fn send(&self, message: &ToHost) {
        if std::process::id() != self.owner {
            return;
        }
        let bytes = message.encode();
        let now = crate::clock::monotonic_ns();
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match writer.write(&self.region, &bytes, now) {
                Ok(()) => break,
                Err(WriteError::NoRoom) => {
                    // The host reads when it is called; on the real clock it polls every millisecond instead.
                    call_host(CALL_MESSAGE);
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error @ (WriteError::TooLong { .. } | WriteError::Memory(_))) => {
                    // The console and the streams still reach the host.
                    eprintln!("ktstr: a message to the host could not be sent: {error}");
                    return;
                }
            }
        }
        call_host(CALL_MESSAGE);
    }

    fn ask(&self, ask: &Ask) -> Answer {
        if std::process::id() != self.owner {
            return Err(format!(
                "a worker cannot ask the host for {}: only the test's own process can",
                ask.name()
            ));
        }
        let broken = |error: Error| format!("the mailbox is broken: {error}");
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked += 1;
        // Clear the previous answer, so that it is not taken for the answer to this request.
        self.region.store(Layout::ANSWER, 0).map_err(broken)?;
        self.send(&ToHost::Ask {
            number: *asked,
            ask: ask.clone(),
        });
        let began = Instant::now();
        while self.region.load(Layout::ANSWER).map_err(broken)? != *asked {
            if began.elapsed() > ANSWER_WITHIN {
                let seconds = ANSWER_WITHIN.as_secs();
                return Err(format!(
                    "the host did not answer within {seconds} s when asked for {}",
                    ask.name()
                ));
            }
            // The host cannot wake the guest: the mailbox has no device and no interrupt. Under the virtual clock the
            // call in `send` was answered before it returned.
            std::thread::sleep(Duration::from_millis(1));
            call_host(CALL_MESSAGE);
        }
        let length = self.region.load(Layout::ANSWER + ANSWER_LENGTH_AT);
        let length = length.map_err(broken)?;
        let mut bytes = vec![0; (length as usize).min(MAX_ANSWER)];
        self.region
            .read(Layout::ANSWER + ANSWER_AT, &mut bytes)
            .map_err(broken)?;
        serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| Err(format!("cannot decode the host's answer: {error}")))
    }
}

/// The messages from the host.
#[derive(Debug)]
pub struct Inbox {
    reader: Reader,
}

impl Inbox {
    /// Reads the host's ring from its start.
    pub fn new() -> Self {
        Self {
            reader: Reader::new(Ring::Host),
        }
    }

    /// Returns whether the ring has unread bytes: the next message, which may be damaged.
    pub fn has_next(&self, region: &Mapped) -> bool {
        region
            .load(Ring::Host.head_offset())
            .is_ok_and(|head| head != self.reader.cursor().bytes)
    }

    /// Returns the next message, or `None` if there is none yet.
    pub fn next(&mut self, region: &Mapped) -> Result<Option<ToGuest>, String> {
        let next = self.reader.next(region);
        if self.reader.dropped() > 0 {
            return Err("a message from the host was damaged in transit".to_owned());
        }
        match next {
            Ok(None) => Ok(None),
            Ok(Some(message)) => match ToGuest::decode(&message.bytes) {
                Ok(message) => Ok(Some(message)),
                Err(e) => Err(format!("cannot decode the host's message: {e}")),
            },
            Err(error) => Err(format!("the host's ring is broken: {error}")),
        }
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}
