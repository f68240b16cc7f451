//! Creates the disk that a test declares: a `null_blk` device that is backed by memory and completes its requests by a timer
//! (`Documentation/block/null_blk.rst`). The device is configured through configfs, and is `/dev/vda` for the test.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use super::InitError;
use crate::protocol::{DiskCounters, DiskSetup};

/// The kernel's name for the device. It is the last part of [`DEVICE`].
const NAME: &str = "ktstr0";
/// The path under which tests know the disk.
const PATH: &str = "/dev/vda";
/// The path that the kernel gives to the disk. Workers use this path rather than [`PATH`], because no host has a disk of this
/// name, and a worker of a `host_only` test must not write to a real disk.
pub(crate) const DEVICE: &str = "/dev/ktstr0";
const CONFIGFS: &str = "/sys/kernel/config";

/// Loads the modules, and creates the device. Does nothing if the device exists already.
pub(super) fn set_up(disk: &DiskSetup) -> Result<(), InitError> {
    if Path::new(PATH).exists() {
        return Ok(());
    }
    for module in &disk.modules {
        load(module)?;
    }
    if !Path::new(CONFIGFS).join("nullb").exists() {
        mount("configfs", CONFIGFS, "configfs", MountFlags::empty(), None)
            .map_err(|e| InitError::system(format!("mounting configfs on {CONFIGFS}"), e))?;
    }
    let device = Path::new(CONFIGFS).join("nullb").join(NAME);
    fs::create_dir(&device)
        .map_err(|e| InitError::system(format!("creating {}", device.display()), e))?;
    let set = |attribute: &str, value: u64| {
        fs::write(device.join(attribute), value.to_string()).map_err(|e| {
            InitError::system(format!("setting {attribute} of the disk to {value}"), e)
        })
    };
    set("size", disk.capacity_mib.into())?;
    set("memory_backed", 1)?;
    // A timer interrupt completes each request.
    set("irqmode", 2)?;
    set("completion_nsec", disk.request_ns)?;
    if disk.one_at_a_time {
        set("hw_queue_depth", 1)?;
    } else {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        set("submit_queues", cpus as u64)?;
    }
    if disk.mib_per_sec > 0 {
        set("mbps", disk.mib_per_sec)?;
    }
    set("power", 1)?;
    let link = |path: &str| {
        symlink(NAME, path).map_err(|e| InitError::system(format!("creating {path}"), e))
    };
    link(PATH)?;
    if let Some(name) = &disk.name {
        link(&format!("/dev/{name}"))?;
    }
    if disk.read_only {
        refuse_writes()?;
    }
    Ok(())
}

/// Loads a module with `finit_module(2)`, unless it is loaded already. The options of `null_blk` keep it from creating
/// devices when it is loaded.
fn load(path: &str) -> Result<(), InitError> {
    let wrap = |e: std::io::Error| InitError::system(format!("loading the module {path}"), e);
    let file = File::open(path).map_err(wrap)?;
    let options = match path.ends_with("null_blk.ko") {
        true => c"nr_devices=0",
        false => c"",
    };
    // SAFETY: the descriptor is open, and the options are a string that lives longer than the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_raw_fd(),
            options.as_ptr(),
            0,
        )
    };
    match rc {
        0 => Ok(()),
        _ => match std::io::Error::last_os_error() {
            e if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            e => Err(wrap(e)),
        },
    }
}

/// `BLKROSET` of include/uapi/linux/fs.h: sets whether a block device is read-only.
const BLKROSET: u64 = 0x125d;

fn refuse_writes() -> Result<(), InitError> {
    let wrap = |e| InitError::system(format!("making {PATH} read-only"), e);
    let disk = File::open(PATH).map_err(wrap)?;
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the kernel reads one int from the address.
    let rc = unsafe { libc::ioctl(disk.as_raw_fd(), BLKROSET as _, &raw const on) };
    match rc {
        0 => Ok(()),
        _ => Err(wrap(std::io::Error::last_os_error())),
    }
}

/// Returns what the disk has done so far (Documentation/block/stat.rst); `None` if there is no disk.
pub(super) fn counters() -> Option<DiskCounters> {
    let text = fs::read_to_string(format!("/sys/block/{NAME}/stat")).ok()?;
    let fields: Vec<u64> = text
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or(0);
    // The kernel counts in sectors of 512 bytes, whatever the block size of the device is.
    let bytes = |at: usize| field(at).saturating_mul(512);
    Some(DiskCounters {
        reads_completed: field(0),
        bytes_read: bytes(2),
        writes_completed: field(4),
        bytes_written: bytes(6),
        flushes_completed: field(15),
    })
}
