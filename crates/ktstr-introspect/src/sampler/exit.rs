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
    home: Home,
    notes: Option<Notes>,
}

/// The notes of the scheduler that was attached last.
#[derive(Debug, Clone, Copy)]
struct Notes {
    /// Where the kind of its end will be.
    kind: u64,
    /// The `struct scx_exit_info`.
    info: u64,
}

/// Where the core keeps the two.
enum Home {
    /// In the `struct scx_sched` behind `scx_root` (6.16 on).
    Scheduler {
        root: u64,
        exit_kind: Member,
        exit_info: Member,
    },
    /// In variables of their own.
    Globals { exit_kind: u64, exit_info: u64 },
}

struct Layout {
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
    /// A reader; an error on a kernel without sched_ext.
    pub fn new<M: GuestMemory + ?Sized>(view: &KernelView<'_, M>) -> Result<Self, KernelError> {
        let sched = |path| view.member("scx_sched", path);
        let home = match view.symbol("scx_root") {
            Ok(root) => Home::Scheduler {
                root,
                exit_kind: sched("exit_kind")?,
                exit_info: sched("exit_info")?,
            },
            Err(_) => Home::Globals {
                exit_kind: view.symbol("scx_exit_kind")?,
                exit_info: view.symbol("scx_exit_info")?,
            },
        };
        let info = |path| view.member("scx_exit_info", path);
        Ok(Self {
            places: Places::new(view.page_table()),
            layout: Layout {
                kind: info("kind")?,
                exit_code: info("exit_code")?,
                reason: info("reason")?,
                bt: info("bt")?,
                bt_len: info("bt_len")?,
                msg: info("msg")?,
                dump: info("dump")?,
            },
            home,
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
        let now = self.places.u32(memory, notes.kind)?;
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
        let (kind, pointer) = match &self.home {
            Home::Scheduler {
                root,
                exit_kind,
                exit_info,
            } => match self.places.u64(memory, *root)? {
                0 => return Ok(()),
                sched => (
                    sched.wrapping_add(exit_kind.offset()),
                    sched.wrapping_add(exit_info.offset()),
                ),
            },
            Home::Globals {
                exit_kind,
                exit_info,
            } => (*exit_kind, *exit_info),
        };
        let info = self.places.u64(memory, pointer)?;
        self.notes = (info != 0).then_some(Notes { kind, info });
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
