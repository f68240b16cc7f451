//! A queue of processes for a host that can carry only a limited load. Processes are served in the order of arrival,
//! each when its weight fits. The load that a process asks for, or already puts on the host, is its claim.
//!
//! Each process takes a ticket, which is a locked file in the queue's folder. It then waits until everyone ahead of it has
//! been served and the running claims leave enough room. A large claim is therefore not starved by a stream of small ones,
//! and the sum exceeds the limit only if a single claim does, which then runs alone. The kernel drops the locks of a
//! process however it ends, so a ticket that is found unlocked belongs to a dead process and is removed.
//!
//! The name of a ticket holds its number and whether its owner waits or runs. Its text names the owner and gives the
//! weight. A ticket is added only while the folder is locked. It may disappear at any time, because its owner removes it
//! when the turn ends.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::lock::PATIENCE;
use crate::{Folder, Lock, StateError};

/// The interval at which a waiting process polls.
const LOOK: Duration = Duration::from_millis(20);
/// The maximum number of other tickets that a notice names.
const NAMED: usize = 6;

const WAITING: &str = "waiting";
const RUNNING: &str = "running";

/// The share of the host's resources that a claim takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// The memory of the machines, in MiB.
    pub memory_mib: u64,
    /// The number of cores that the claim can keep busy.
    pub cores: u32,
}

impl std::fmt::Display for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cores = if self.cores == 1 { "core" } else { "cores" };
        write!(f, "{} MiB, {} {cores}", self.memory_mib, self.cores)
    }
}

/// How much may run at once. A claim larger than the limit runs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The sum of the weights must not exceed this weight.
    Sum(Weight),
    /// The number of claims must not exceed this number, whatever they weigh.
    Count(u32),
}

impl Limit {
    /// Returns whether `claim` may run next to the claims that run already.
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

/// A queue whose tickets are files in a folder.
#[derive(Debug)]
pub struct Queue {
    folder: Folder,
}

/// A place in the queue: the lock of a ticket that waits or runs. [`Queue::enter`] returns one that runs. The turn ends when
/// this value is dropped or when the process exits.
#[derive(Debug)]
pub struct Turn {
    ticket: PathBuf,
    _lock: Lock,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Remove the file while it is still locked, so that nobody takes it for the ticket of a dead process. If the
        // removal fails, the file is left unlocked, and the next process in the queue removes it.
        let _ = fs::remove_file(&self.ticket);
    }
}

/// A ticket whose process is alive.
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

    /// Returns the number of the ticket that has this file name, and whether its owner waits; `None` for any other name.
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
        let state = if self.waits { "waits to run" } else { "runs" };
        write!(
            f,
            "process {} {state} {} ({})",
            self.pid, self.name, self.weight
        )
    }
}

impl Queue {
    /// Opens the queue in `folder`, which must be private to this user.
    pub fn new(folder: Folder) -> Self {
        Self { folder }
    }

    /// Waits for the turn of a claim called `name`. If that takes longer than [`PATIENCE`], `notice` is called once
    /// with a text for the user.
    pub fn enter(
        &self,
        name: &str,
        weight: Weight,
        limit: Limit,
        mut notice: impl FnMut(&str),
    ) -> Result<Turn, StateError> {
        let began = Instant::now();
        let mut notified = false;
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
            // Only the first in the queue checks the running claims; everyone else waits for the ticket just ahead.
            let before = ahead.and_then(|t| File::open(self.path(&t.file())).ok());
            loop {
                if !notified && began.elapsed() >= PATIENCE {
                    notice(&self.notice(&own, &others, limit));
                    notified = true;
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

    /// Creates and locks a ticket's file. The caller must hold the folder's lock.
    fn put(&self, ticket: &Ticket) -> Result<Lock, StateError> {
        let path = self.path(&ticket.file());
        let wrap = |e: io::Error| StateError::io("write the ticket", self.folder.place(), &path, e);
        let lock = Lock::try_take(&path, self.folder.place())?.ok_or_else(|| {
            wrap(io::Error::other(
                "another process has a ticket with this number",
            ))
        })?;
        let mut file = lock.file();
        file.set_len(0)
            .and_then(|()| file.write_all(ticket.text().as_bytes()))
            .map_err(wrap)?;
        Ok(lock)
    }

    /// Returns the tickets of living processes, except the one with the number `own`, and removes the tickets of dead
    /// processes. A ticket whose text is malformed is left out. The caller must hold the folder's lock.
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
            // An owner removes its ticket when its turn ends, so the file may already be gone.
            let Ok(file) = File::open(&path) else {
                continue;
            };
            if !is_locked(&file) {
                // A file that cannot be removed now is ignored now and tried again later.
                let _ = fs::remove_file(&path);
                continue;
            }
            let text = io::read_to_string(&file).unwrap_or_default();
            living.extend(Ticket::parse(&name, &text));
        }
        Ok(living)
    }

    fn notice(&self, own: &Ticket, others: &[Ticket], limit: Limit) -> String {
        let mut before: Vec<&Ticket> = others.iter().filter(|t| t.number < own.number).collect();
        before.sort_by_key(|t| (t.waits, t.number));
        let (name, weight) = (&own.name, own.weight);
        let mut text = match limit {
            Limit::Sum(_) => {
                format!("ktstr: {name} ({weight}) waits for the CPUs and the memory of:")
            }
            Limit::Count(most) => format!(
                "ktstr: {name} ({weight}) waits, because at most {most} may run at once (KTSTR_MACHINES), for the end of:"
            ),
        };
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

/// Returns whether a living process holds a ticket. The check tries a shared lock, so that concurrent checks do not take
/// each other for the owner.
fn is_locked(ticket: &File) -> bool {
    ticket.try_lock_shared().is_err()
}

/// Returns the names of all files in a folder, sorted.
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
