//! What sched_ext noted of a scheduler's end, whoever brought it about.
//!
//! The kernel allocates room for its notes when a scheduler attaches and frees them once that is
//! unregistered. So their places are learned while it is attached, and read when it is no more.

use super::places::Places;
use crate::btf::{Btf, Member};
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;
use crate::report::ScxExit;
use crate::symbols::Symbols;

/// The first kind that is an end (`SCX_EXIT_UNREG`).
const FIRST_END: u32 = 64;
/// `SCX_EXIT_DONE`: the kernel has taken in what the scheduler ended of.
const DONE: u32 = 1;
/// Bytes read of a dump, at most; the kernel makes 32 KiB unless asked for more.
const MAX_DUMP: usize = 1 << 20;
const MAX_TEXT: usize = 1024;
const MAX_FRAMES: usize = 64;

/// Follows the attached scheduler to its end.
pub struct ExitReader {
    places: Places,
    layout: Layout,
    root: u64,
    notes: Option<Notes>,
}

/// The notes of the scheduler that was attached last.
#[derive(Debug, Clone, Copy)]
struct Notes {
    sched: u64,
    info: u64,
}

struct Layout {
    exit_kind: Member,
    exit_info: Member,
    kind: Member,
    exit_code: Member,
    reason: Member,
    bt: Member,
    bt_len: Member,
    msg: Member,
    dump: Member,
}

/// How far a scheduler's end has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It goes on, or there is none.
    No,
    /// It comes to its end: what is known so far.
    Ending(ScxExit),
    /// All that the kernel noted.
    Done(ScxExit),
}

impl ExitReader {
    /// A reader; an error on a kernel that keeps no such notes (before 6.16).
    pub fn new<M: GuestMemory + ?Sized>(view: &KernelView<'_, M>) -> Result<Self, KernelError> {
        let sched = |path| view.member("scx_sched", path);
        let info = |path| view.member("scx_exit_info", path);
        Ok(Self {
            places: Places::new(view.page_table()),
            layout: Layout {
                exit_kind: sched("exit_kind")?,
                exit_info: sched("exit_info")?,
                kind: info("kind")?,
                exit_code: info("exit_code")?,
                reason: info("reason")?,
                bt: info("bt")?,
                bt_len: info("bt_len")?,
                msg: info("msg")?,
                dump: info("dump")?,
            },
            root: view.symbol("scx_root")?,
            notes: None,
        })
    }

    /// Looks. One read while a scheduler goes on.
    pub fn look<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        btf: &Btf,
        symbols: &Symbols,
    ) -> Result<Ended, KernelError> {
        let Some(notes) = self.notes else {
            self.learn(memory)?;
            return Ok(Ended::No);
        };
        let at = notes.sched.wrapping_add(self.layout.exit_kind.offset());
        let now = self.places.u32(memory, at)?;
        if now == 0 {
            return Ok(Ended::No);
        }
        let Some(exit) = self.read(memory, notes, btf, symbols)? else {
            return Ok(Ended::No);
        };
        Ok(match now {
            DONE => Ended::Done(exit),
            _ => Ended::Ending(exit),
        })
    }

    fn learn<M: GuestMemory + ?Sized>(&mut self, memory: &M) -> Result<(), KernelError> {
        let sched = self.places.u64(memory, self.root)?;
        if sched != 0 {
            let at = sched.wrapping_add(self.layout.exit_info.offset());
            let info = self.places.u64(memory, at)?;
            self.notes = (info != 0).then_some(Notes { sched, info });
        }
        Ok(())
    }

    /// The notes, if they tell of an end.
    fn read<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        notes: Notes,
        btf: &Btf,
        symbols: &Symbols,
    ) -> Result<Option<ScxExit>, KernelError> {
        let (places, layout) = (&mut self.places, &self.layout);
        let at = |member: &Member| notes.info.wrapping_add(member.offset());
        let kind = places.u32(memory, at(&layout.kind))?;
        let Some(kind_name) = btf.enumerator("scx_exit_kind", i64::from(kind)) else {
            return Ok(None);
        };
        if kind < FIRST_END {
            return Ok(None);
        }
        let mut text = |member: &Member, max| -> Result<String, KernelError> {
            let pointer = places.u64(memory, at(member))?;
            Ok(places.string(memory, pointer, max))
        };
        let reason = text(&layout.reason, MAX_TEXT)?;
        let msg = text(&layout.msg, MAX_TEXT)?;
        let dump = text(&layout.dump, MAX_DUMP)?;
        let frames = places.u64(memory, at(&layout.bt))?;
        let count = places.u32(memory, at(&layout.bt_len))? as usize;
        let mut backtrace = Vec::new();
        for frame in 0..count.min(MAX_FRAMES) as u64 {
            let Ok(address) = places.u64(memory, frames.wrapping_add(8 * frame)) else {
                break;
            };
            backtrace.push(match symbols.nearest(address) {
                Some((name, offset)) if offset < 1 << 20 => format!("{name}+{offset:#x}"),
                _ => format!("{address:#x}"),
            });
        }
        Ok(Some(ScxExit {
            kind,
            kind_name: kind_name.to_owned(),
            exit_code: places.u64(memory, at(&layout.exit_code))?.cast_signed(),
            reason,
            msg,
            backtrace,
            dump,
        }))
    }
}
