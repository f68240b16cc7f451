//! The state that must differ between two machines of the same template: clock, randomness, process ids.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::ioctl::{Setter, ioctl, opcode};
use rustix::time::{ClockId, Timespec, clock_settime};

use super::InitError;

/// `RNDADDENTROPY` from include/uapi/linux/random.h: two ints, then the bytes.
const RNDADDENTROPY: rustix::ioctl::Opcode = opcode::write::<[i32; 2]>(b'R', 0x03);
/// `RNDRESEEDCRNG`: makes the kernel use the added entropy at once.
const RNDRESEEDCRNG: rustix::ioctl::Opcode = opcode::none(b'R', 0x07);
/// Maximum number of bytes added to the entropy pool: the size of the key of the kernel's generator (`ChaCha20`).
const ENTROPY: usize = 32;

#[repr(C)]
struct PoolInfo {
    bits: i32,
    size: i32,
    bytes: [u8; ENTROPY],
}

/// The files that give a machine its own identity. They are opened before the machine is saved, because opening takes
/// longer than writing and would otherwise be repeated in each fork.
#[derive(Debug)]
pub(super) struct Identity {
    pool: File,
    /// `None` on a kernel without `CONFIG_CHECKPOINT_RESTORE`; process ids then continue from those of the template.
    last_pid: Option<File>,
}

impl Identity {
    pub(super) fn open() -> Result<Self, InitError> {
        let open = |path: &str| match File::options().write(true).open(path) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(InitError::system(format!("opening {path}"), e)),
        };
        let pool = open("/dev/urandom")?;
        Ok(Self {
            pool: pool.ok_or_else(|| {
                InitError::Message("the guest's kernel has no /dev/urandom".to_owned())
            })?,
            last_pid: open("/proc/sys/kernel/ns_last_pid")?,
        })
    }

    /// Adds `entropy` to the random pool, and sets the last process id and, unless `realtime_ns` is `None`, the wall clock.
    pub(super) fn refresh(
        &self,
        realtime_ns: Option<u64>,
        entropy: &[u8],
        last_pid: u32,
    ) -> Result<(), InitError> {
        if let Some(ns) = realtime_ns {
            let now = Timespec {
                tv_sec: (ns / 1_000_000_000) as i64,
                tv_nsec: (ns % 1_000_000_000) as _,
            };
            clock_settime(ClockId::Realtime, now)
                .map_err(|e| InitError::system("setting the guest's wall clock", e))?;
        }
        self.add_entropy(entropy)
            .map_err(|e| InitError::system("feeding the guest's random pool", e))?;
        let Some(file) = &self.last_pid else {
            return Ok(());
        };
        file.write_all_at(last_pid.to_string().as_bytes(), 0)
            .map_err(|e| InitError::system("setting the last process id", e))
    }

    fn add_entropy(&self, entropy: &[u8]) -> std::io::Result<()> {
        let mut bytes = [0u8; ENTROPY];
        let len = entropy.len().min(ENTROPY);
        bytes[..len].copy_from_slice(&entropy[..len]);
        let info = PoolInfo {
            bits: (len * 8) as i32,
            size: len as i32,
            bytes,
        };
        let pool = self.pool.as_fd();
        // SAFETY: the kernel reads two ints and then `size` bytes, and `PoolInfo` contains all of them.
        unsafe { ioctl(pool, Setter::<RNDADDENTROPY, PoolInfo>::new(info))? };
        // SAFETY: the request takes no argument.
        unsafe { ioctl(pool, rustix::ioctl::NoArg::<RNDRESEEDCRNG>::new())? };
        Ok(())
    }
}
