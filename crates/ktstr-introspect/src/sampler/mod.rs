//! Samples the runqueues of a guest many times per run: the layout is determined once, and then a sample takes a few reads
//! per CPU and per waiting task.
//!
//! The guest may be running. In that case each runqueue is read twice. If the two readings disagree or are inconsistent, the
//! runqueue is read again; after several attempts the sample fails with [`SampleError::Torn`]. CPUs are read one after the
//! other, so a task that migrates between two of them can be seen twice or not at all. Checks should therefore rely on what
//! several successive samples have in common.
//!
//! For whole captures, see [`capture`](crate::capture).

mod exit;
mod layout;
mod translation_cache;
mod waiting;

pub use exit::{Ended, ExitReader};

use thiserror::Error;

use ktstr_snapshot::report::{RqCounts, RqSample, RqSchedstat, SchedDomain, ScxEventCounters};

use crate::btf::Member;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;
use crate::narrow;
use crate::scx::by_name;
use layout::{DomainLayout, RqLayout, TaskLayout, number, pointer};
use translation_cache::TranslationCache;

/// The number of attempts to read a runqueue of a running guest before the sample is given up as torn.
const ATTEMPTS: usize = 4;
/// The length above which a queue is considered invalid.
const MAX_RUNNING: u32 = 1 << 20;
/// The largest number of levels of scheduling domains that are read.
const MAX_DOMAINS: usize = 8;

/// Why a sample failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The guest changed the runqueue while it was read, or a single reading of the runqueue makes no sense.
    #[error("cpu{cpu}: {what}, in attempt {attempts}")]
    Torn {
        /// The number of the CPU whose runqueue was read.
        cpu: u32,
        /// How the readings are inconsistent, as a clause such as `the queue changed`.
        what: &'static str,
        /// The number of attempts. A stopped guest gets only one, because it would not change.
        attempts: usize,
    },
    /// The runqueue could not be read.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// Where the per-CPU data of a CPU is.
#[derive(Debug, Clone, Copy)]
struct PerCpu {
    /// The kernel address of its runqueue.
    rq: u64,
    /// The number to add to the address of a per-CPU variable.
    offset: u64,
}

/// Samples the runqueues of one guest kernel. It keeps the kernel's layout, and what it found at earlier samples.
pub struct Sampler {
    translations: TranslationCache,
    rq: RqLayout,
    task: TaskLayout,
    domain: Option<DomainLayout>,
    events: Option<EventLayout>,
    cpus: Vec<PerCpu>,
    /// The address of the variable `scx_root`, which kernels before 6.16 do not have.
    scx_root: Option<u64>,
    /// The address of the enable state, and the value that means that no scheduler is attached.
    enable_state: Option<(u64, u32)>,
    /// The address of the static key `sched_schedstats`.
    schedstats: Option<u64>,
    /// The value of `scx_root` at the last sample; without that variable, 1 if a scheduler was attached. It is 0 if none was.
    root: u64,
    /// The per-CPU address of the event counters of the scheduler in `root`; `None` if it is unknown or does not exist.
    counters: Option<u64>,
    /// Whether the scheduling domains have been read once.
    domains_known: bool,
    /// Two readings of a runqueue, and one of a task.
    buffers: [Vec<u8>; 3],
}

/// Where the per-CPU address of the event counters is found.
enum EventPlace {
    /// The per-CPU pointer in `struct scx_sched` (6.16 on).
    InScheduler(Member),
    /// A per-CPU variable of all schedulers (6.15).
    Global(u64),
}

/// The location of a scheduler's event counters.
struct EventLayout {
    pointer: EventPlace,
    /// The offset of `struct scx_event_stats` from the per-CPU address that `pointer` gives.
    offset: u64,
    /// The number of bytes of the struct that contain all counters, at most 4096.
    size: usize,
    /// The counters in the order of [`by_name`]; `None` for one that the kernel does not have.
    members: Vec<Option<Member>>,
}

/// The runqueues of all CPUs. If the guest ran meanwhile, each of them was read at a slightly later moment than the one before
/// it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// One sample for each CPU, by its number.
    pub cpus: Vec<RqSample>,
    /// Whether a sched_ext scheduler is attached; `None` if the kernel has no variable that shows it.
    pub scx_attached: Option<bool>,
}

impl Sampler {
    /// Determines the layout of the kernel; it is an error if the kernel lacks a symbol or a member that every sample needs,
    /// or if memory cannot be read.
    pub fn new<M: GuestMemory + ?Sized>(view: &KernelView<'_, M>) -> Result<Self, KernelError> {
        let btf = view.btf();
        let runqueues = view.symbol("runqueues")?;
        let cpus = (0..view.cpu_count()?)
            .map(|cpu| {
                let offset = view.per_cpu_offset(cpu)?;
                let rq = runqueues.wrapping_add(offset);
                Ok(PerCpu { rq, offset })
            })
            .collect::<Result<Vec<_>, KernelError>>()?;
        let rq = RqLayout::new(btf)?;
        let buffers = [vec![0; rq.span], vec![0; rq.span], Vec::new()];
        Ok(Self {
            translations: TranslationCache::new(view.page_table()),
            rq,
            task: TaskLayout::new(btf)?,
            domain: DomainLayout::new(btf),
            events: EventLayout::new(view),
            cpus,
            scx_root: view.symbol("scx_root").ok(),
            enable_state: view.scx_enable_state_place(),
            schedstats: view.symbol("sched_schedstats").ok(),
            root: 0,
            counters: None,
            domains_known: false,
            buffers,
        })
    }

    /// Returns whether the kernel has sched_ext event counters.
    pub fn has_event_counters(&self) -> bool {
        self.events.is_some()
    }

    /// Samples every CPU. `running` says whether the guest runs during the call. If it runs, inconsistent readings are repeated.
    ///
    /// # Errors
    /// If the guest changed a runqueue during each of several attempts, if a runqueue makes no sense (for a stopped guest
    /// after one attempt), or if memory cannot be read.
    pub fn sample<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        running: bool,
    ) -> Result<Sample, SampleError> {
        let scx_attached = self.follow_root(memory)?;
        let schedstats = match self.schedstats {
            // The first member of a static key is its count of users.
            Some(key) => self.translations.u32(memory, key)? != 0,
            None => false,
        };
        let mut cpus = Vec::with_capacity(self.cpus.len());
        for cpu in 0..self.cpus.len() {
            let mut attempt = 0;
            let sample = loop {
                attempt += 1;
                match self.cpu(memory, cpu, running, schedstats) {
                    Err(SampleError::Torn { .. }) if attempt < ATTEMPTS && running => {}
                    Err(SampleError::Torn { cpu, what, .. }) => {
                        let attempts = attempt;
                        return Err(SampleError::Torn {
                            cpu,
                            what,
                            attempts,
                        });
                    }
                    other => break other?,
                }
            };
            cpus.push(sample);
        }
        self.domains_known = true;
        Ok(Sample { cpus, scx_attached })
    }

    /// Returns whether a scheduler is attached, and `None` if no variable of the kernel shows it. Also determines where the
    /// event counters of the scheduler are. Before 6.16 there is no `scx_root`, and the enable state shows whether a
    /// scheduler is attached, but not which.
    fn follow_root<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
    ) -> Result<Option<bool>, KernelError> {
        let (root, attached) = match (self.scx_root, self.enable_state) {
            (Some(symbol), _) => {
                let root = self.translations.u64(memory, symbol)?;
                (root, Some(root != 0))
            }
            (None, Some((state, disabled))) => {
                let attached = self.translations.u32(memory, state)? != disabled;
                (u64::from(attached), Some(attached))
            }
            (None, None) => (0, None),
        };
        if root != self.root {
            // Memory of the previous scheduler may have been unmapped.
            self.translations.forget();
            self.root = root;
            self.counters = None;
        }
        if root != 0
            && self.counters.is_none()
            && let Some(events) = &self.events
        {
            let per_cpu = match &events.pointer {
                EventPlace::InScheduler(pointer) => self
                    .translations
                    .u64(memory, root.wrapping_add(pointer.offset()))?,
                EventPlace::Global(per_cpu) => *per_cpu,
            };
            self.counters = (per_cpu != 0).then(|| per_cpu.wrapping_add(events.offset));
        }
        Ok(attached)
    }

    fn cpu<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        cpu: usize,
        running: bool,
        schedstats: bool,
    ) -> Result<RqSample, SampleError> {
        let PerCpu { rq: at, offset } = self.cpus[cpu];
        let torn = |what| SampleError::Torn {
            cpu: narrow::count(cpu as u64),
            what,
            attempts: 1,
        };
        let [mut first, mut second, mut task] = std::mem::take(&mut self.buffers);
        let read = self.translations.read(memory, at, &mut first);
        let waiting = read.and_then(|()| {
            let queues = waiting::Queues {
                rq: at,
                bytes: &first,
                cpu,
                cpus: self.cpus.len(),
            };
            self.waiting(memory, &queues, &mut task)
        });
        let again = match running {
            true => self.translations.read(memory, at, &mut second),
            false => Ok(()),
        };
        let (bytes, later) = (first, second);
        let result = (|| {
            let waiting = waiting?;
            again?;
            let value = |member: &Member| number(&bytes, member);
            if value(&self.rq.cpu) != cpu as u64 {
                return Err(torn("the runqueue is another CPU's"));
            }
            if running {
                self.agree(&bytes, &later).map_err(torn)?;
            }
            let scx = self.rq.scx.as_ref();
            let mut sample = RqSample {
                nr_running: narrow::count(value(&self.rq.nr_running)),
                scx_nr_running: scx.map_or(0, |scx| narrow::count(value(&scx.nr_running))),
                local_dsq_depth: scx.map_or(0, |scx| narrow::count(value(&scx.local_nr))),
                rq_clock: value(&self.rq.clock),
                scx_flags: scx.map_or(0, |scx| narrow::low_half(value(&scx.flags))),
                idle: value(&self.rq.curr) == value(&self.rq.idle),
                online: self.rq.online.as_ref().map(|member| value(member) != 0),
                nr_switches: self.rq.nr_switches.as_ref().map(value),
                avg_irq_util: self.rq.avg_irq.as_ref().map(value),
                event_counters: None,
                schedstat: self.schedstat(&bytes, schedstats),
                sched_domains: None,
                waiting: None,
            };
            if sample.nr_running > MAX_RUNNING || sample.scx_nr_running > sample.nr_running {
                return Err(torn("the queue's length makes no sense"));
            }
            sample.waiting = match waiting {
                Ok(waiting) => Some(waiting),
                Err(_) if !running => None,
                Err(what) => return Err(torn(what)),
            };
            Ok(sample)
        })();
        let domain = self.rq.domain.as_ref().map(|m| pointer(&bytes, m));
        self.buffers = [bytes, later, task];
        let mut sample = result?;
        sample.event_counters = self.event_counters(memory, offset)?;
        if schedstats || !self.domains_known {
            sample.sched_domains = domain.and_then(|sd| self.domains(memory, sd, schedstats));
        }
        Ok(sample)
    }

    /// Checks that two successive readings have the same queue, and that the clock did not go back in between.
    fn agree(&self, first: &[u8], second: &[u8]) -> Result<(), &'static str> {
        let same = |member: &Member| number(first, member) == number(second, member);
        let scx = self.rq.scx.as_ref();
        if !same(&self.rq.nr_running)
            || !same(&self.rq.curr)
            || !scx.is_none_or(|scx| same(&scx.nr_running) && same(&scx.local_nr))
        {
            return Err("the queue changed");
        }
        let (before, after) = (
            number(first, &self.rq.clock),
            number(second, &self.rq.clock),
        );
        if after < before {
            return Err("the clock went back");
        }
        Ok(())
    }

    fn schedstat(&self, rq: &[u8], counted: bool) -> Option<RqSchedstat> {
        let (run_delay, pcount) = (self.rq.run_delay.as_ref()?, self.rq.pcount.as_ref()?);
        let counts = self.rq.counts.as_ref().filter(|_| counted).map(|members| {
            let [yld, sched, goidle, ttwu, local] = members.map(|m| narrow::count(number(rq, &m)));
            RqCounts {
                yld_count: yld,
                sched_count: sched,
                sched_goidle: goidle,
                ttwu_count: ttwu,
                ttwu_local: local,
            }
        });
        Some(RqSchedstat {
            run_delay: number(rq, run_delay),
            pcount: number(rq, pcount),
            counts,
        })
    }

    fn event_counters<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        offset: u64,
    ) -> Result<Option<ScxEventCounters>, KernelError> {
        let (Some(events), Some(per_cpu)) = (&self.events, self.counters) else {
            return Ok(None);
        };
        let mut bytes = vec![0; events.size];
        let at = per_cpu.wrapping_add(offset);
        self.translations.read(memory, at, &mut bytes)?;
        let mut counters = ScxEventCounters::default();
        for ((_, slot), member) in by_name(&mut counters).into_iter().zip(&events.members) {
            if let Some(member) = member {
                *slot = number(&bytes, member).cast_signed();
            }
        }
        Ok(Some(counters))
    }

    fn domains<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        mut sd: u64,
        counted: bool,
    ) -> Option<Vec<SchedDomain>> {
        let layout = self.domain.as_ref()?;
        let translations = &mut self.translations;
        let mut domains = Vec::new();
        while sd != 0 && domains.len() < MAX_DOMAINS {
            let mut at =
                |member: &Member| translations.u32(memory, sd.wrapping_add(member.offset()));
            let mut lb_count = None;
            if let Some(member) = layout.lb_count.as_ref().filter(|_| counted) {
                // `lb_count` is an array of `unsigned int`, one for each value of `enum cpu_idle_type`.
                let mut sum = 0;
                for kind in 0..(member.size / 4).min(8) {
                    let offset_bits = member.offset_bits + 32 * kind;
                    sum += u64::from(
                        at(&Member {
                            offset_bits,
                            ..*member
                        })
                        .ok()?,
                    );
                }
                lb_count = Some(sum);
            }
            let (level, span_weight) = (at(&layout.level).ok()?, at(&layout.span_weight).ok()?);
            let name = match &layout.name {
                Some(member) => {
                    let at = translations
                        .u64(memory, sd.wrapping_add(member.offset()))
                        .ok()?;
                    translations.string(memory, at, 16)
                }
                None => String::new(),
            };
            domains.push(SchedDomain {
                name,
                level,
                span_weight,
                lb_count,
            });
            sd = translations
                .u64(memory, sd.wrapping_add(layout.parent.offset()))
                .ok()?;
        }
        Some(domains)
    }
}

impl EventLayout {
    fn new<M: GuestMemory + ?Sized>(view: &KernelView<'_, M>) -> Option<Self> {
        let btf = view.btf();
        let (pointer, offset) = match btf.member("scx_sched", "pcpu") {
            Ok(pcpu) => {
                let stats = btf.member("scx_sched_pcpu", "event_stats").ok()?;
                (EventPlace::InScheduler(pcpu), stats.offset())
            }
            Err(_) => match btf.member("scx_sched", "event_stats_cpu") {
                Ok(pointer) => (EventPlace::InScheduler(pointer), 0),
                Err(_) => (EventPlace::Global(view.symbol("event_stats_cpu").ok()?), 0),
            },
        };
        let members: Vec<_> = by_name(&mut ScxEventCounters::default())
            .iter()
            .map(|(names, _)| {
                let mut names = names.iter();
                names.find_map(|name| btf.member("scx_event_stats", name).ok())
            })
            .collect();
        let ends = members.iter().flatten().map(|m| m.offset() + m.size);
        Some(Self {
            pointer,
            offset,
            size: ends.max()?.min(4096) as usize,
            members,
        })
    }
}
