//! Reads the exit information that sched_ext keeps for a scheduler, for any kind of exit.
//!
//! The kernel allocates the exit information when a scheduler attaches, and frees it when the scheduler is unregistered. So the
//! address is determined while the scheduler is attached, and the information is read from there later.

use ktstr_snapshot::report::ScxExit;

use super::translation_cache::TranslationCache;
use crate::btf::{Btf, Member};
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;
use crate::symbols::Symbols;

/// `SCX_EXIT_UNREG`, the lowest exit kind that stands for a reason of the exit. Below it are `SCX_EXIT_NONE` and
/// `SCX_EXIT_DONE`, which are states.
const FIRST_END: u32 = 64;
/// `SCX_EXIT_DONE`: the kernel has processed the exit.
const DONE: u32 = 1;
/// The largest number of bytes that are read of a dump; the kernel writes up to 32 KiB unless the scheduler requests
/// another size (`exit_dump_len`).
const MAX_DUMP: usize = 1 << 20;
/// The largest number of bytes that are read of the reason and of the message (`SCX_EXIT_MSG_LEN`).
const MAX_TEXT: usize = 1024;
/// The largest number of frames of the stack trace that are read (`SCX_EXIT_BT_LEN`).
const MAX_FRAMES: usize = 64;

/// Follows one attached scheduler to its end. Create a new reader for the next one.
pub struct ExitReader {
    translations: TranslationCache,
    layout: Layout,
    home: Home,
    notes: Option<Notes>,
}

/// The addresses of the followed scheduler's exit information.
#[derive(Debug, Clone, Copy)]
struct Notes {
    /// The address of the exit kind, which is 0 while the scheduler runs.
    kind: u64,
    /// The address of the `struct scx_exit_info`.
    info: u64,
}

/// Where the sched_ext core keeps the exit kind and the pointer to the exit information.
enum Home {
    /// In the `struct scx_sched` behind `scx_root` (6.16 on).
    Scheduler {
        root: u64,
        exit_kind: Member,
        exit_info: Member,
    },
    /// In global variables at these addresses (before 6.16).
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

/// The progress of a scheduler's exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// No scheduler is attached, no exit has begun, or the kernel has not filled in the information yet or has freed it.
    No,
    /// The scheduler is exiting; the information may be incomplete.
    Ending(ScxExit),
    /// The exit is complete, with all information.
    Done(ScxExit),
}

impl ExitReader {
    /// Creates a reader; it is an error if the kernel has no sched_ext.
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
            translations: TranslationCache::new(view.page_table()),
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

    /// Starts to follow the scheduler that is attached now. Returns whether there is a scheduler whose exit has not begun.
    ///
    /// # Errors
    /// Returns an error if the guest's memory cannot be read.
    pub fn follow<M: GuestMemory + ?Sized>(&mut self, memory: &M) -> Result<bool, KernelError> {
        self.learn(memory)?;
        match self.notes {
            Some(notes) => Ok(self.translations.u32(memory, notes.kind)? == 0),
            None => Ok(false),
        }
    }

    /// Checks for an exit. This takes one read while a scheduler is running.
    ///
    /// A scheduler is followed from the first call at which it is attached, so call this function regularly.
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
        let now = self.translations.u32(memory, notes.kind)?;
        if now == 0 {
            return Ok(Ended::No);
        }
        let exit = match self.is_kept(memory, notes)? {
            true => self.read(memory, notes, btf, symbols)?,
            false => None,
        };
        // The kernel may free the information while it is read from a running guest.
        let Some(exit) = exit.filter(|_| self.is_kept(memory, notes).unwrap_or(false)) else {
            return Ok(Ended::No);
        };
        Ok(match now {
            DONE => Ended::Done(exit),
            _ => Ended::Ending(exit),
        })
    }

    /// Returns whether the kernel still keeps the exit information. Before 6.16 it frees the information as soon as it has
    /// processed the exit, and then clears the pointer to it (`scx_ops_disable_workfn` in kernel/sched/ext.c).
    fn is_kept<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        notes: Notes,
    ) -> Result<bool, KernelError> {
        match self.home {
            Home::Scheduler { .. } => Ok(true),
            Home::Globals { exit_info, .. } => {
                Ok(self.translations.u64(memory, exit_info)? == notes.info)
            }
        }
    }

    /// Determines the addresses of the attached scheduler's exit information, if there is a scheduler.
    fn learn<M: GuestMemory + ?Sized>(&mut self, memory: &M) -> Result<(), KernelError> {
        let (kind, pointer) = match &self.home {
            Home::Scheduler {
                root,
                exit_kind,
                exit_info,
            } => match self.translations.u64(memory, *root)? {
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
        let info = self.translations.u64(memory, pointer)?;
        self.notes = (info != 0).then_some(Notes { kind, info });
        Ok(())
    }

    /// Returns the exit information; `None` if its kind does not stand for a reason of the exit, for instance because the
    /// kernel has not filled it in yet, or if the kernel's BTF does not have the kind.
    fn read<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        notes: Notes,
        btf: &Btf,
        symbols: &Symbols,
    ) -> Result<Option<ScxExit>, KernelError> {
        let (translations, layout) = (&mut self.translations, &self.layout);
        let at = |member: &Member| notes.info.wrapping_add(member.offset());
        let kind = translations.u32(memory, at(&layout.kind))?;
        let Some(kind_name) = btf.enumerator("scx_exit_kind", i64::from(kind)) else {
            return Ok(None);
        };
        if kind < FIRST_END {
            return Ok(None);
        }
        let mut text = |member: &Member, max| -> Result<String, KernelError> {
            let pointer = translations.u64(memory, at(member))?;
            Ok(translations.string(memory, pointer, max))
        };
        let reason = text(&layout.reason, MAX_TEXT)?;
        let msg = text(&layout.msg, MAX_TEXT)?;
        let dump = text(&layout.dump, MAX_DUMP)?;
        let frames = translations.u64(memory, at(&layout.bt))?;
        let count = translations.u32(memory, at(&layout.bt_len))? as usize;
        let mut backtrace = Vec::new();
        for frame in 0..count.min(MAX_FRAMES) as u64 {
            let Ok(address) = translations.u64(memory, frames.wrapping_add(8 * frame)) else {
                break;
            };
            // The code of modules and of BPF programs is far above the last symbol, so an address that is 1 MiB or more
            // above the nearest symbol is shown as a number.
            backtrace.push(match symbols.nearest(address) {
                Some((name, offset)) if offset < 1 << 20 => format!("{name}+{offset:#x}"),
                _ => format!("{address:#x}"),
            });
        }
        Ok(Some(ScxExit {
            kind,
            kind_name: kind_name.to_owned(),
            exit_code: translations
                .u64(memory, at(&layout.exit_code))?
                .cast_signed(),
            reason,
            msg,
            backtrace,
            dump,
        }))
    }
}
