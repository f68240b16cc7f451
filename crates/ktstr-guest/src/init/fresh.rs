//! What must differ between two machines of one template: clock, randomness, process ids.

use std::io::Write;
use std::os::fd::AsFd;

use rustix::ioctl::{Setter, ioctl, opcode};
use rustix::time::{ClockId, Timespec, clock_settime};

use super::InitError;

/// `RNDADDENTROPY` of include/uapi/linux/random.h: two ints, then the bytes.
const RNDADDENTROPY: rustix::ioctl::Opcode = opcode::write::<[i32; 2]>(b'R', 0x03);
/// `RNDRESEEDCRNG`: what was added counts from now on.
const RNDRESEEDCRNG: rustix::ioctl::Opcode = opcode::none(b'R', 0x07);
/// Most bytes taken for the pool at once.
const ENTROPY: usize = 64;

#[repr(C)]
struct PoolInfo {
    bits: i32,
    size: i32,
    bytes: [u8; ENTROPY],
}

/// Sets wall clock, random pool and the last process id.
pub(super) fn refresh(realtime_ns: u64, entropy: &[u8], last_pid: u32) -> Result<(), InitError> {
    let now = Timespec {
        tv_sec: (realtime_ns / 1_000_000_000) as i64,
        tv_nsec: (realtime_ns % 1_000_000_000) as _,
    };
    clock_settime(ClockId::Realtime, now)
        .map_err(|e| InitError::system("setting the guest's wall clock", e))?;
    add_entropy(entropy).map_err(|e| InitError::system("feeding the guest's random pool", e))?;
    std::fs::File::options()
        .write(true)
        .open("/proc/sys/kernel/ns_last_pid")
        .and_then(|mut file| file.write_all(last_pid.to_string().as_bytes()))
        .map_err(|e| InitError::system("setting the last process id", e))
}

fn add_entropy(entropy: &[u8]) -> std::io::Result<()> {
    let mut bytes = [0u8; ENTROPY];
    let len = entropy.len().min(ENTROPY);
    bytes[..len].copy_from_slice(&entropy[..len]);
    let pool = std::fs::File::options().write(true).open("/dev/urandom")?;
    let info = PoolInfo {
        bits: (len * 8) as i32,
        size: len as i32,
        bytes,
    };
    // SAFETY: the kernel reads two ints and then `size` bytes, all of which `PoolInfo` holds.
    unsafe { ioctl(pool.as_fd(), Setter::<RNDADDENTROPY, PoolInfo>::new(info))? };
    // SAFETY: takes no argument.
    unsafe { ioctl(pool.as_fd(), rustix::ioctl::NoArg::<RNDRESEEDCRNG>::new())? };
    Ok(())
}
