//! Work on a temporary file. The file has no name, so nothing is left of it however the worker
//! ends. The guest has no disk: its file systems are in memory, where neither writes nor
//! `fdatasync(2)` block.

use super::super::ctx::WorkerCtx;
use super::super::sys;
use super::super::text::Text;
use super::super::unable::Unable;

/// Size of a block in bytes, which satisfies the size and alignment rules of `O_DIRECT`.
const BLOCK: usize = 4096;
/// Number of blocks in the file.
const BLOCKS: u64 = 256;
/// Number of blocks between two calls of `fdatasync(2)`.
const BATCH: u64 = 16;

/// An unnamed file and a block of memory.
pub(super) struct Scratch {
    fd: i32,
    block: *mut libc::c_void,
}

impl Scratch {
    /// Creates the file, opened with `flags` in addition to the usual ones. `Err` is the errno.
    pub fn new(flags: i32) -> Result<Self, i32> {
        let flags = libc::O_TMPFILE | libc::O_RDWR | flags;
        let fd = Text::of(b"/tmp")
            .open(flags)
            .or_else(|_| Text::of(b"/").open(flags))?;
        let block = sys::map(BLOCK).ok_or(libc::ENOMEM)?.as_mut_ptr().cast();
        Ok(Self { fd, block })
    }

    /// Writes one block. The number wraps around at the end of the file.
    pub fn write(&self, block: u64) -> Result<(), i32> {
        let at = (block % BLOCKS).wrapping_mul(BLOCK as u64) as libc::off_t;
        // SAFETY: the block has that length and is never unmapped; the descriptor is our own.
        whole(unsafe { libc::pwrite(self.fd, self.block, BLOCK, at) })
    }

    /// Reads one block. The number wraps around at the end of the file.
    pub fn read(&self, block: u64) -> Result<(), i32> {
        let at = (block % BLOCKS).wrapping_mul(BLOCK as u64) as libc::off_t;
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

    /// Writes each block once, so that every later read finds a whole block.
    fn fill(&self) -> Result<(), i32> {
        (0..BLOCKS).try_for_each(|block| self.write(block))
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
    with(ctx, Scratch::new(libc::O_SYNC), |ctx, file, turn| {
        for block in 0..BATCH {
            file.write(turn.wrapping_mul(BATCH).wrapping_add(block))?;
        }
        ctx.count_units(BATCH);
        file.sync()
    });
}

/// An iteration reads one random block.
pub(super) fn rand_read(ctx: &mut WorkerCtx<'_>) {
    // Opening fails on a file system without O_DIRECT.
    let file = Scratch::new(libc::O_DIRECT).or_else(|_| Scratch::new(0));
    with(ctx, filled(file), |ctx, file, _| {
        let block = ctx.rng.below(BLOCKS);
        ctx.count_units(1);
        file.read(block)
    });
}

/// An iteration writes a block and reads a random one, sixteen times, then calls `fdatasync(2)`.
pub(super) fn convoy(ctx: &mut WorkerCtx<'_>) {
    with(ctx, filled(Scratch::new(0)), |ctx, file, turn| {
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
