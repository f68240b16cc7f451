//! The guest's end of the mailbox: guest-physical pages mapped through `/dev/mem`.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ktstr_mailbox::{CALL_MESSAGE, Full, Layout, MARKER, Reader, Region, Ring, Writer};

use crate::link::Link;
use crate::protocol::{ANSWER_AT, ANSWER_LENGTH_AT, Answer, Ask, MAX_ANSWER, ToGuest, ToHost};

/// The mapped mailbox.
#[derive(Debug)]
pub struct Mapped {
    start: *mut u8,
}

// SAFETY: the mapping is never moved or unmapped, and every access to it is a copy through a
// raw pointer or an atomic; who writes where is settled by the rings.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps the reserved range.
    pub fn open() -> std::io::Result<Self> {
        let memory = File::options().read(true).write(true).open("/dev/mem")?;
        // SAFETY: a fresh mapping at an address of the kernel's choice; the range is kept free
        // of anything else by the kernel's command line.
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
    /// The first `len` bytes of the bulk window. The host leaves them alone until it is told
    /// that they were taken.
    pub fn bulk(&self, len: u64) -> std::io::Result<&[u8]> {
        if len > Layout::BULK_SIZE {
            return Err(Error::from(ErrorKind::InvalidInput));
        }
        let start = self.at(Layout::BULK, len as usize)?;
        // SAFETY: within the mapping, which lives as long as the process; nobody writes there
        // between the host's message and our answer.
        Ok(unsafe { std::slice::from_raw_parts(start, len as usize) })
    }
}

impl Region for Mapped {
    type Error = Error;

    fn read(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        let from = self.at(offset, buf.len())?;
        // SAFETY: `from` is good for `len` bytes; `buf` is memory of ours elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(from, buf.as_mut_ptr(), buf.len()) };
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let to = self.at(offset, bytes.len())?;
        // SAFETY: `to` is good for `len` bytes; `bytes` is memory of ours elsewhere.
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

/// Calls the host: under the virtual clock the guest stands still until the host has looked,
/// elsewhere this does nothing.
///
/// A function of its own: the guest's thread stops at the end of a block of instructions, and no
/// read of what the host wrote meanwhile may come before.
#[inline(never)]
pub fn call_host(argument: u64) {
    // SAFETY: the instruction exchanges a register with itself.
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

/// Guest time that the host may take to answer. Under the virtual clock none goes by.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The way to the host: a ring this process alone writes.
#[derive(Debug)]
pub struct MailLink {
    region: Mapped,
    writer: Mutex<Writer>,
    /// How much was asked; held by who waits for an answer.
    asked: Mutex<u64>,
}

impl MailLink {
    /// Sends through `ring`.
    pub fn new(region: Mapped, ring: Ring) -> Self {
        Self {
            region,
            writer: Mutex::new(Writer::new(ring)),
            asked: Mutex::new(0),
        }
    }
}

impl Link for MailLink {
    fn send(&self, message: &ToHost) {
        let bytes = message.encode();
        let now = crate::clock::monotonic_ns();
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match writer.write(&self.region, &bytes, now) {
                Ok(()) => break,
                Err(Full::NoRoom) => {
                    // The host reads when it is called, or every millisecond while it lives.
                    call_host(CALL_MESSAGE);
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error @ (Full::TooLong { .. } | Full::Memory(_))) => {
                    // The console and the streams are other ways to the host.
                    eprintln!("ktstr: a message to the host could not be sent: {error}");
                    return;
                }
            }
        }
        call_host(CALL_MESSAGE);
    }

    fn ask(&self, ask: &Ask) -> Answer {
        let broken = |error: Error| format!("the mailbox is broken: {error}");
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked += 1;
        // The answer before must not be taken for this one.
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
            // The host has no way to wake a guest: no device, no interrupt. Under the virtual clock the call above was answered
            // before it returned.
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
            .unwrap_or_else(|error| Err(format!("the host's answer makes no sense: {error}")))
    }
}

/// What comes from the host.
#[derive(Debug)]
pub struct Inbox {
    reader: Reader,
}

impl Inbox {
    /// The host's ring from its start.
    pub fn new() -> Self {
        Self {
            reader: Reader::new(Ring::Host),
        }
    }

    /// Whether a message, or something broken, is there.
    pub fn has_next(&self, region: &Mapped) -> bool {
        region
            .load(Ring::Host.head_offset())
            .is_ok_and(|head| head != self.reader.place().bytes)
    }

    /// The next message, if it is there.
    pub fn next(&mut self, region: &Mapped) -> Result<Option<ToGuest>, String> {
        let next = self.reader.next(region);
        if self.reader.dropped() > 0 {
            return Err("a message of the host was damaged on its way".to_owned());
        }
        match next {
            Ok(None) => Ok(None),
            Ok(Some(message)) => match ToGuest::decode(&message.bytes) {
                Ok(message) => Ok(Some(message)),
                Err(e) => Err(format!("the host's message makes no sense: {e}")),
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
