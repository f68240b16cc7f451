//! Work on the guest's disk, where a worker blocks until its request is complete. Without a disk the worker uses a temporary
//! file in memory, where neither writes nor `fdatasync(2)` block. The file has no name, so nothing is left of it however the
//! worker ends.

use super::super::ctx::WorkerCtx;
use super::super::sys;
use super::super::text::Text;
use super::super::unable::Unable;
use crate::init::disk;

/// Size of a block in bytes, which satisfies the size and alignment rules of `O_DIRECT`.
const BLOCK: usize = 4096;
/// Number of blocks in the file, and in a worker's part of the disk.
const BLOCKS: u64 = 256;
/// Number of blocks between two calls of `fdatasync(2)`.
const BATCH: u64 = 16;
/// The folder of the temporary file. In the guest it is in memory. Unit tests run on the host, where `/tmp` may be on a disk of
/// any speed.
const FOLDER: &[u8] = if cfg!(test) { b"/dev/shm" } else { b"/tmp" };

/// What a worker reads and writes: a part of the disk or an unnamed file, with a block of memory for the data.
pub(super) struct Scratch {
    fd: i32,
    /// The offset of the worker's part in bytes; 0 in a file.
    start: u64,
    on_disk: bool,
    block: *mut libc::c_void,
}

impl Scratch {
    /// Opens part `index` of the disk, with `access` and `flags`; without a disk, creates a file with
    /// `flags`. If there are more workers than parts, several workers use the same part. `Err` is the errno.
    pub fn new(index: u64, access: i32, flags: i32) -> Result<Self, i32> {
        let block = sys::map(BLOCK).ok_or(libc::ENOMEM)?.as_mut_ptr().cast();
        match Text::of(disk::DEVICE.as_bytes()).open(access | flags) {
            Err(libc::ENOENT) => {}
            Err(errno) => return Err(errno),
            Ok(fd) => {
                // SAFETY: the descriptor is our own.
                let size = unsafe { libc::lseek(fd, 0, libc::SEEK_END) };
                let part = BLOCKS.saturating_mul(BLOCK as u64);
                let parts = (size.max(0) as u64 / part).max(1);
                return Ok(Self {
                    fd,
                    start: (index % parts).wrapping_mul(part),
                    on_disk: true,
                    block,
                });
            }
        }
        let flags = libc::O_TMPFILE | libc::O_RDWR | flags;
        let fd = Text::of(FOLDER)
            .open(flags)
            .or_else(|_| Text::of(b"/").open(flags))?;
        Ok(Self {
            fd,
            start: 0,
            on_disk: false,
            block,
        })
    }

    fn offset(&self, block: u64) -> libc::off_t {
        let at = (block % BLOCKS).wrapping_mul(BLOCK as u64);
        self.start.wrapping_add(at) as libc::off_t
    }

    /// Writes one block. The block number wraps around at the end of the file or of the worker's part of the disk.
    pub fn write(&self, block: u64) -> Result<(), i32> {
        let at = self.offset(block);
        // SAFETY: the block has that length and is never unmapped; the descriptor is our own.
        whole(unsafe { libc::pwrite(self.fd, self.block, BLOCK, at) })
    }

    /// Reads one block. The block number wraps around at the end of the file or of the worker's part of the disk.
    pub fn read(&self, block: u64) -> Result<(), i32> {
        let at = self.offset(block);
        // SAFETY: as above; nothing else accesses the block.
        whole(unsafe { libc::pread(self.fd, self.block, BLOCK, at) })
    }

    /// Writes the file's data back with `fdatasync(2)`.
    pub fn sync(&self) -> Result<(), i32> {
        // SAFETY: the descriptor is our own.
        if unsafe { libc::fdatasync(self.fd) } < 0 {
            return interrupted(sys::errno());
        }
        Ok(())
    }

    /// Writes each block of a file once, so that every later read finds a whole block. On a disk this does nothing, because
    /// all of its blocks exist.
    fn fill(&self) -> Result<(), i32> {
        let missing = if self.on_disk { 0 } else { BLOCKS };
        (0..missing).try_for_each(|block| self.write(block))
    }
}

fn whole(got: isize) -> Result<(), i32> {
    match got {
        n if n == BLOCK as isize => Ok(()),
        n if n < 0 => interrupted(sys::errno()),
        _ => Err(libc::EIO),
    }
}

/// Treats an interruption by the stop signal as success.
fn interrupted(errno: i32) -> Result<(), i32> {
    if errno == libc::EINTR {
        Ok(())
    } else {
        Err(errno)
    }
}

/// An iteration writes sixteen blocks with `O_SYNC`, then calls `fdatasync(2)`.
pub(super) fn sync_write(ctx: &mut WorkerCtx<'_>) {
    let file = Scratch::new(ctx.disk_part(), libc::O_RDWR, libc::O_SYNC);
    with(ctx, file, |ctx, file, turn| {
        for block in 0..BATCH {
            file.write(turn.wrapping_mul(BATCH).wrapping_add(block))?;
        }
        ctx.count_units(BATCH);
        file.sync()
    });
}

/// An iteration reads one random block.
pub(super) fn rand_read(ctx: &mut WorkerCtx<'_>) {
    // The disk supports O_DIRECT, but the file system of a temporary file may not. In this case, open the file without it.
    let part = ctx.disk_part();
    let file = Scratch::new(part, libc::O_RDONLY, libc::O_DIRECT)
        .or_else(|_| Scratch::new(part, libc::O_RDONLY, 0));
    with(ctx, filled(file), |ctx, file, _| {
        let block = ctx.rng.below(BLOCKS);
        ctx.count_units(1);
        file.read(block)
    });
}

/// An iteration writes a block and reads a random one, sixteen times, then calls `fdatasync(2)`.
pub(super) fn convoy(ctx: &mut WorkerCtx<'_>) {
    let file = Scratch::new(ctx.disk_part(), libc::O_RDWR, 0);
    with(ctx, filled(file), |ctx, file, turn| {
        for pair in 0..BATCH {
            file.write(turn.wrapping_mul(BATCH).wrapping_add(pair))?;
            file.read(ctx.rng.below(BLOCKS))?;
        }
        ctx.count_units(2 * BATCH);
        file.sync()
    });
}

fn filled(file: Result<Scratch, i32>) -> Result<Scratch, i32> {
    file.and_then(|file| file.fill().map(|()| file))
}

/// Repeats `turn` until the worker is told to stop.
fn with(
    ctx: &mut WorkerCtx<'_>,
    file: Result<Scratch, i32>,
    mut turn: impl FnMut(&mut WorkerCtx<'_>, &Scratch, u64) -> Result<(), i32>,
) {
    let file = match file {
        Ok(file) => file,
        Err(errno) => return ctx.unable(Unable::File, errno),
    };
    let mut turns = 0;
    while !ctx.stopped() {
        if let Err(errno) = turn(ctx, &file, turns) {
            return ctx.unable(Unable::File, errno);
        }
        turns = turns.wrapping_add(1);
        ctx.iteration();
        ctx.checkpoint();
    }
}
