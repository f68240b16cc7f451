//! A queue of processes for a host that carries only so much at once: first come, first served, by weight.
//!
//! Whoever comes takes a ticket, a locked file in the queue's folder, and waits until all who came before are served and
//! what runs leaves room for it. So a large claim is served though small ones keep coming, and the sum holds. The kernel
//! drops the locks of a process however it ends: tickets of the dead are found unlocked, and are removed.
//!
//! A ticket's name has its number and whether its holder waits or runs; its text says who that is and what it takes. The
//! list changes only under the lock of the folder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::lock::PATIENCE;
use crate::{Folder, Lock, StateError};

/// How often a waiting process looks.
const LOOK: Duration = Duration::from_millis(20);
/// Most others that a notice names.
const NAMED: usize = 6;

const WAITING: &str = "waiting";
const RUNNING: &str = "running";

/// What something takes of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Cores that it can keep busy.
    pub cores: u32,
}

impl std::fmt::Display for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cores = if self.cores == 1 { "core" } else { "cores" };
        write!(f, "{} MiB, {} {cores}", self.memory_mib, self.cores)
    }
}

/// How much may run at once. What is larger than the limit runs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The sum of all weights.
    Sum(Weight),
    /// The number of claims, whatever they weigh.
    Count(u32),
}

impl Limit {
    /// Whether `claim` may run beside what runs already.
    fn allows(self, running: &[Weight], claim: Weight) -> bool {
        if running.is_empty() {
            return true;
        }
        match self {
            Self::Count(most) => running.len() < most as usize,
            Self::Sum(most) => {
                let sum = |of: fn(&Weight) -> u64| {
                    running.iter().map(of).fold(of(&claim), u64::saturating_add)
                };
                sum(|w| w.memory_mib) <= most.memory_mib
                    && sum(|w| u64::from(w.cores)) <= u64::from(most.cores)
            }
        }
    }
}

/// A queue that lives in a folder.
#[derive(Debug)]
pub struct Queue {
    folder: Folder,
}

/// The right to run. It ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct Turn {
    ticket: PathBuf,
    _lock: Lock,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Removed while it is locked: nobody takes it for that of a dead process. If it stays, it is unlocked.
        let _ = fs::remove_file(&self.ticket);
    }
}

/// A ticket of a living process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ticket {
    number: u64,
    waits: bool,
    pid: u32,
    weight: Weight,
    name: String,
}

impl Ticket {
    fn file(&self) -> String {
        let state = if self.waits { WAITING } else { RUNNING };
        format!("{:08}.{state}", self.number)
    }

    fn text(&self) -> String {
        let Weight { memory_mib, cores } = self.weight;
        format!("{} {memory_mib} {cores} {}\n", self.pid, self.name)
    }

    /// Number and state in a file's name; `None` for another file.
    fn in_name(name: &str) -> Option<(u64, bool)> {
        let (number, state) = name.split_once('.')?;
        let waits = match state {
            WAITING => true,
            RUNNING => false,
            _ => return None,
        };
        Some((number.parse().ok()?, waits))
    }

    fn parse(name: &str, text: &str) -> Option<Self> {
        let (number, waits) = Self::in_name(name)?;
        let mut fields = text.trim_end().splitn(4, ' ');
        Some(Self {
            number,
            waits,
            pid: fields.next()?.parse().ok()?,
            weight: Weight {
                memory_mib: fields.next()?.parse().ok()?,
                cores: fields.next()?.parse().ok()?,
            },
            name: fields.next()?.to_owned(),
        })
    }
}

impl std::fmt::Display for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.waits { "waits" } else { "runs" };
        write!(
            f,
            "process {} {state} {} ({})",
            self.pid, self.name, self.weight
        )
    }
}

impl Queue {
    /// The queue in `folder`, which is private.
    pub fn new(folder: Folder) -> Self {
        Self { folder }
    }

    /// Waits for the turn of a claim called `name`. A wait of more than [`PATIENCE`] is told to `notice`, once.
    pub fn enter(
        &self,
        name: &str,
        weight: Weight,
        limit: Limit,
        mut notice: impl FnMut(&str),
    ) -> Result<Turn, StateError> {
        let began = Instant::now();
        let mut told = false;
        let (mut own, waiting) = self.join(name, weight)?;
        loop {
            let gate = self.gate()?;
            let others = self.living(own.number)?;
            let ahead = others
                .iter()
                .filter(|t| t.waits && t.number < own.number)
                .max_by_key(|t| t.number);
            let running: Vec<Weight> = others
                .iter()
                .filter(|t| !t.waits)
                .map(|t| t.weight)
                .collect();
            if ahead.is_none() && limit.allows(&running, weight) {
                own.waits = false;
                let lock = self.put(&own)?;
                let ticket = self.path(&own.file());
                drop(waiting);
                drop(gate);
                return Ok(Turn {
                    ticket,
                    _lock: lock,
                });
            }
            drop(gate);
            // Only the first in the queue looks at what runs; everybody else waits for the one before.
            let before = ahead.and_then(|t| File::open(self.path(&t.file())).ok());
            loop {
                if !told && began.elapsed() >= PATIENCE {
                    notice(&self.notice(&own, &others));
                    told = true;
                }
                std::thread::sleep(LOOK);
                match &before {
                    Some(ticket) if is_locked(ticket) => {}
                    _ => break,
                }
            }
        }
    }

    /// Takes a ticket at the end of the queue.
    fn join(&self, name: &str, weight: Weight) -> Result<(Ticket, Turn), StateError> {
        let _gate = self.gate()?;
        let last = self.living(u64::MAX)?.iter().map(|t| t.number).max();
        let own = Ticket {
            number: last.unwrap_or(0) + 1,
            waits: true,
            pid: std::process::id(),
            weight,
            name: name.replace(['\n', '\r'], " "),
        };
        let lock = self.put(&own)?;
        let ticket = self.path(&own.file());
        Ok((
            own,
            Turn {
                ticket,
                _lock: lock,
            },
        ))
    }

    /// Makes and locks a ticket's file; the list must be locked.
    fn put(&self, ticket: &Ticket) -> Result<Lock, StateError> {
        let path = self.path(&ticket.file());
        let wrap = |e: io::Error| StateError::io("write the ticket", self.folder.place(), &path, e);
        let lock = Lock::try_take(&path, self.folder.place())?.ok_or_else(|| {
            wrap(io::Error::other(
                "another process has a ticket of this number",
            ))
        })?;
        let mut file = lock.file();
        file.set_len(0)
            .and_then(|()| file.write_all(ticket.text().as_bytes()))
            .map_err(wrap)?;
        Ok(lock)
    }

    /// The tickets of living processes but the waiting one of number `own`; those of dead ones are removed. The list must
    /// be locked.
    fn living(&self, own: u64) -> Result<Vec<Ticket>, StateError> {
        let wrap = |e| StateError::io("list", self.folder.place(), self.folder.path(), e);
        let mut living = Vec::new();
        for entry in fs::read_dir(self.folder.path()).map_err(wrap)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            match Ticket::in_name(&name) {
                None => continue,
                Some((number, _)) if number == own => continue,
                Some(_) => {}
            }
            let path = entry.path();
            // Whoever ends removes its ticket, so it may be gone by now.
            let Ok(file) = File::open(&path) else {
                continue;
            };
            if !is_locked(&file) {
                let _ = fs::remove_file(&path);
                continue;
            }
            let text = io::read_to_string(&file).unwrap_or_default();
            living.extend(Ticket::parse(&name, &text));
        }
        Ok(living)
    }

    fn notice(&self, own: &Ticket, others: &[Ticket]) -> String {
        let mut before: Vec<&Ticket> = others.iter().filter(|t| t.number < own.number).collect();
        before.sort_by_key(|t| (t.waits, t.number));
        let mut text = format!(
            "ktstr: {} ({}) waits until this host has room for it:",
            own.name, own.weight
        );
        for (at, ticket) in before.iter().take(NAMED).enumerate() {
            let separator = if at == 0 { " " } else { ", " };
            text.push_str(&format!("{separator}{ticket}"));
        }
        if before.len() > NAMED {
            text.push_str(&format!(", and {} more", before.len() - NAMED));
        }
        text
    }

    fn gate(&self) -> Result<Lock, StateError> {
        Lock::of_folder(&self.folder, "the list of running machines")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Whether a living process holds a ticket. Shared, so that those who look do not see each other.
fn is_locked(ticket: &File) -> bool {
    ticket.try_lock_shared().is_err()
}

/// The names of the tickets in a folder, for tests.
#[cfg(test)]
fn tickets(folder: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
