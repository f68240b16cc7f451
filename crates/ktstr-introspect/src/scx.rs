//! The sched_ext core (kernel/sched/ext.c): which scheduler is attached, the core's state and counters, and writes that change
//! the timeout of its watchdog. Its queues are in `dsq.rs`.
//!
//! The core changed a lot between 6.12 and 7.3. Until 6.15 its state is in globals (`scx_ops`, `scx_exit_kind`); from 6.16
//! on it is in a `struct scx_sched` behind `scx_root`, into which more of the globals moved with every release. A value is
//! read from the struct if the struct has such a member in this kernel, and from a global otherwise.

use ktstr_snapshot::ReadSection;
use ktstr_snapshot::report::{
    EventCounterSample, FailureDumpReport, ScxEventCounters, ScxSchedState, Section,
};

use crate::bpf::maps::BpfMap;
use crate::btf::Kind;
use crate::capture::Reading;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;
use crate::narrow;

/// A write to the guest's memory, which the caller has to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestWrite {
    /// The guest-physical address of the variable.
    pub gpa: u64,
    /// The `unsigned long` that is written there.
    pub value: u64,
}

/// The name and the maps of the attached scheduler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActiveScheduler {
    /// The prefix of the names of its section maps; the name of its `struct_ops` map if it has no section map.
    pub obj_name: String,
    /// The kernel addresses of the maps that belong to it: those of its object, and others that its programs use.
    pub map_kvas: Vec<u64>,
}

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns the state of the sched_ext core.
    ///
    /// # Errors
    /// If the kernel has no sched_ext, or memory cannot be read.
    pub fn scx_sched_state(&self) -> Result<ScxSchedState, KernelError> {
        let sched = self.scx_root();
        let enable_state = self.scx_enable_state()?;
        let number = |member: &str, globals: &[&str]| self.scx_number(sched, member, globals);
        let exit_kind = number("exit_kind", &["scx_exit_kind"]).map(narrow::count);
        let ops_name = match self.scx_ops() {
            Some(ops) if sched.is_some() || enable_state != "disabled" => {
                let name = self.member("sched_ext_ops", "name")?;
                let name = self.read_string(ops.wrapping_add(name.offset()), name.size)?;
                Some(name).filter(|name| !name.is_empty())
            }
            _ => None,
        };
        let btf = self.btf();
        Ok(ScxSchedState {
            enable_state,
            ops_name,
            aborting: number("aborting", &["scx_aborting"]).map(|value| value != 0),
            bypass_depth: number(
                "bypass_depth",
                &["scx_bypass_depth", "scx_ops_bypass_depth"],
            )
            .map(narrow::int),
            exit_kind,
            exit_kind_name: exit_kind
                .and_then(|kind| btf.enumerator("scx_exit_kind", i64::from(kind)))
                .map(str::to_owned),
            watchdog_timeout: number("watchdog_timeout", &["scx_watchdog_timeout"]),
            watchdog_timestamp: number("watchdog_timestamp", &["scx_watchdog_timestamp"]),
            source: if self.symbol("scx_root").is_ok() {
                "scx_root".to_owned()
            } else {
                "globals".to_owned()
            },
            sched_kva: sched.unwrap_or(0),
        })
    }

    /// Returns the writes that set the runnable-stall timeout to `milliseconds`.
    ///
    /// The timeout is in jiffies, at least 2. The length of a jiffy is derived from the scheduler's own `timeout_ms` (30 s
    /// if that is 0) and from the number of jiffies into which the kernel has converted it. The kernel looks for stalled
    /// tasks once per half of the scheduler's own timeout, and every tick verifies that the last check is not older than the
    /// timeout. A lower timeout would expire before the next check, so the recorded time of the last check is set to the latest
    /// time at which the next check is due.
    ///
    /// # Errors
    /// If the kernel has no sched_ext, or memory cannot be read.
    pub fn scx_watchdog_writes(&self, milliseconds: u64) -> Result<Vec<GuestWrite>, KernelError> {
        let timeout = match (
            self.scx_root(),
            self.member("scx_sched", "watchdog_timeout"),
        ) {
            (Some(sched), Ok(member)) => sched.wrapping_add(member.offset()),
            _ => self.symbol("scx_watchdog_timeout")?,
        };
        let own_ms = match self.scx_ops() {
            Some(ops) => self.read_member(ops, &self.member("sched_ext_ops", "timeout_ms")?)?,
            None => 0,
        };
        let own_ms = u128::from(if own_ms == 0 { 30_000 } else { own_ms });
        let own = self.read_u64(timeout)?;
        let jiffies = u128::from(own) * u128::from(milliseconds) / own_ms;
        let wanted = u64::try_from(jiffies).unwrap_or(u64::MAX).max(2);
        let write = |kva, value| {
            let gpa = self.translate(kva)?;
            Ok::<_, KernelError>(GuestWrite { gpa, value })
        };
        let mut writes = vec![write(timeout, wanted)?];
        if wanted < own {
            let due = self.jiffies()?.wrapping_add(own / 2);
            let last = self.symbol("scx_watchdog_timestamp")?;
            writes.push(write(last, due)?);
        }
        // From 7.1 on the period of the checks is in a separate variable.
        if let Ok(interval) = self.symbol("scx_watchdog_interval") {
            writes.push(write(interval, wanted / 2)?);
        }
        Ok(writes)
    }

    /// Returns the address of the root `struct scx_sched`; `None` if no scheduler is attached, if the kernel is older than 6.16,
    /// or if the pointer cannot be read.
    pub fn scx_root(&self) -> Option<u64> {
        let root = self.read_symbol_u64("scx_root").ok()?;
        (root != 0).then_some(root)
    }

    /// Returns the address of the kernel's copy of the attached scheduler's `struct sched_ext_ops`; `None` from 6.16 on if
    /// no scheduler is attached. Before 6.16 the copy is a global, which exists without a scheduler too.
    fn scx_ops(&self) -> Option<u64> {
        match self.scx_root() {
            Some(sched) => {
                let ops = self.member("scx_sched", "ops").ok()?;
                Some(sched.wrapping_add(ops.offset()))
            }
            None => self.symbol("scx_ops").ok(),
        }
    }

    /// Returns whether the attached scheduler implements the callback `name` of its `struct sched_ext_ops`; `None` if the
    /// kernel has no such callback, or if the scheduler's callbacks cannot be found or read.
    pub fn scx_implements(&self, name: &str) -> Option<bool> {
        let callback = self.member("sched_ext_ops", name).ok()?;
        let function = self.read_member(self.scx_ops()?, &callback).ok()?;
        Some(function != 0)
    }

    /// Returns the address of the variable with the core's enable state, which had another name before 6.16.
    fn scx_enable_state_var(&self) -> Result<u64, KernelError> {
        self.symbol("scx_enable_state_var")
            .or_else(|_| self.symbol("scx_ops_enable_state_var"))
    }

    /// Returns the address of the variable with the core's enable state, and the value that means that no scheduler is attached;
    /// `None` if the kernel has no sched_ext.
    pub(crate) fn scx_enable_state_place(&self) -> Option<(u64, u32)> {
        let btf = self.btf();
        let disabled = btf
            .enumerator_value("scx_enable_state", "SCX_DISABLED")
            .or_else(|| btf.enumerator_value("scx_ops_enable_state", "SCX_OPS_DISABLED"))?;
        Some((
            self.scx_enable_state_var().ok()?,
            u32::try_from(disabled).ok()?,
        ))
    }

    fn scx_enable_state(&self) -> Result<String, KernelError> {
        let kva = self.scx_enable_state_var()?;
        let state = i64::from(self.read_u32(kva)?);
        let btf = self.btf();
        let name = btf
            .enumerator("scx_enable_state", state)
            .or_else(|| btf.enumerator("scx_ops_enable_state", state));
        Ok(match name {
            Some(name) => name
                .trim_start_matches("SCX_OPS_")
                .trim_start_matches("SCX_")
                .to_ascii_lowercase(),
            None => state.to_string(),
        })
    }

    /// Returns a number from the scheduler's struct or, if the struct has no such member in this kernel, from the first of
    /// `globals` that can be read; `None` if neither can be read.
    fn scx_number(&self, sched: Option<u64>, member: &str, globals: &[&str]) -> Option<u64> {
        if let Ok(field) = self.member("scx_sched", member) {
            return self.read_member(sched?, &field).ok();
        }
        globals.iter().find_map(|name| {
            let kva = self.symbol(name).ok()?;
            // The symbol table does not have the sizes of globals, so they are known by name: `unsigned long`, `bool`, and
            // otherwise `int` or `atomic_t`.
            let size = match *name {
                "scx_watchdog_timeout" | "scx_watchdog_timestamp" => 8,
                "scx_aborting" => 1,
                _ => 4,
            };
            self.read_uint(kva, size).ok()
        })
    }

    /// Returns which of `maps` belong to the attached scheduler; `None` if no scheduler is attached, or if its `struct_ops` map
    /// is not among them.
    ///
    /// The scheduler's `struct_ops` map is the one with the callbacks of the attached ops: each map has its own trampolines, so
    /// the callbacks of two copies of one scheduler differ. The object's other maps were created with the same BTF, or are used
    /// by its programs.
    ///
    /// # Errors
    /// If the kernel has no sched_ext, or memory cannot be read.
    pub fn active_scheduler(
        &self,
        maps: &[BpfMap],
    ) -> Result<Option<ActiveScheduler>, KernelError> {
        if matches!(self.scx_enable_state()?.as_str(), "disabled") {
            return Ok(None);
        }
        let Some(ops) = self.scx_ops() else {
            return Ok(None);
        };
        let callbacks = self.ops_callbacks();
        let wanted = self.callbacks_at(ops, &callbacks)?;
        if wanted.iter().all(|callback| *callback == 0) {
            return Ok(None);
        }
        let value = self.member("bpf_struct_ops_map", "kvalue")?;
        let data = self.member("bpf_struct_ops_sched_ext_ops", "data")?;
        let struct_ops = maps.iter().filter(|map| map.type_name == "struct_ops");
        let active = struct_ops.into_iter().find(|map| {
            let ops = map.kva.wrapping_add(value.offset() + data.offset());
            matches!(self.callbacks_at(ops, &callbacks), Ok(found) if found == wanted)
        });
        let Some(active) = active else {
            return Ok(None);
        };
        let used = self.struct_ops_used_maps(active.kva).unwrap_or_default();
        let same_object = |map: &&BpfMap| {
            map.kva == active.kva
                || (active.btf != 0 && map.btf == active.btf)
                || used.contains(&map.kva)
        };
        let owned: Vec<&BpfMap> = maps.iter().filter(same_object).collect();
        let section = owned.iter().find_map(|map| {
            let (object, section) = map.name.split_once('.')?;
            matches!(section, "bss" | "data" | "rodata").then(|| object.to_owned())
        });
        Ok(Some(ActiveScheduler {
            obj_name: section.unwrap_or_else(|| active.name.clone()),
            map_kvas: owned.iter().map(|map| map.kva).collect(),
        }))
    }

    /// Returns the offsets of the callbacks in `struct sched_ext_ops`: its pointers, except for the kernel's own `priv`.
    fn ops_callbacks(&self) -> Vec<u64> {
        let btf = self.btf();
        let Some(ops) = btf.find_struct("sched_ext_ops") else {
            return Vec::new();
        };
        ops.fields()
            .filter(|field| field.name != "priv")
            .filter(|field| {
                btf.resolve(field.type_id)
                    .is_some_and(|ty| ty.kind() == Kind::Ptr)
            })
            .map(|field| u64::from(field.offset_bits / 8))
            .take(128)
            .collect()
    }

    fn callbacks_at(&self, ops: u64, offsets: &[u64]) -> Result<Vec<u64>, KernelError> {
        let read = |offset: &u64| self.read_u64(ops.wrapping_add(*offset));
        offsets.iter().map(read).collect()
    }

    /// Returns the addresses of the maps that the programs of the `struct_ops` map at `map` use. The programs are found through
    /// the map's links.
    fn struct_ops_used_maps(&self, map: u64) -> Result<Vec<u64>, KernelError> {
        let links = self.read_member(map, &self.member("bpf_struct_ops_map", "links")?)?;
        let count = self
            .member("bpf_struct_ops_map", "funcs_cnt")
            .or_else(|_| self.member("bpf_struct_ops_map", "links_cnt"))?;
        let count = self.read_member(map, &count)?.min(256);
        let prog = self.member("bpf_link", "prog")?;
        let mut used = Vec::new();
        for index in 0..count {
            let link = self.read_u64(links.wrapping_add(8 * index))?;
            if link == 0 {
                continue;
            }
            let prog = self.read_member(link, &prog)?;
            for map in self.prog_used_maps(prog).unwrap_or_default() {
                if !used.contains(&map) {
                    used.push(map);
                }
            }
        }
        Ok(used)
    }

    /// Returns the event counters summed over the CPUs.
    ///
    /// # Errors
    /// If the kernel has no counters (before 6.15), if no scheduler is attached (from 6.16 on, where the counters are the
    /// scheduler's), or if memory cannot be read.
    pub fn scx_event_counters(&self) -> Result<ScxEventCounters, KernelError> {
        let per_cpu = match self.scx_root() {
            Some(sched) => match self.member("scx_sched", "pcpu") {
                Ok(pcpu) => {
                    let stats = self.member("scx_sched_pcpu", "event_stats")?;
                    self.read_member(sched, &pcpu)?.wrapping_add(stats.offset())
                }
                Err(_) => self.read_member(sched, &self.member("scx_sched", "event_stats_cpu")?)?,
            },
            None => self.symbol("event_stats_cpu")?,
        };
        let mut counters = ScxEventCounters::default();
        let cpus = self.cpu_count()?;
        for (names, slot) in by_name(&mut counters) {
            let member = names
                .iter()
                .find_map(|name| self.member("scx_event_stats", name).ok());
            let Some(member) = member else { continue };
            for cpu in 0..cpus {
                let at = self.per_cpu(per_cpu, cpu)?;
                let value = self.read_member(at, &member)?.cast_signed();
                *slot = slot.wrapping_add(value);
            }
        }
        Ok(counters)
    }
}

impl<M: GuestMemory + ?Sized> ReadSection<Vec<EventCounterSample>> for Reading<'_, '_, M> {
    fn read_section(&self, _: &FailureDumpReport) -> Section<Vec<EventCounterSample>> {
        let elapsed_ms = self.options.elapsed_ms;
        let sample = |counters| EventCounterSample {
            elapsed_ms,
            counters,
        };
        let counters = self.view.scx_event_counters();
        counters.map(|counters| vec![sample(counters)]).into()
    }
}

impl<M: GuestMemory + ?Sized> ReadSection<ScxSchedState> for Reading<'_, '_, M> {
    fn read_section(&self, _: &FailureDumpReport) -> Section<ScxSchedState> {
        self.view.scx_sched_state().into()
    }
}

/// Returns the kernel's names of each counter, newest first, and the field for its value.
pub(crate) fn by_name(
    counters: &mut ScxEventCounters,
) -> [(&'static [&'static str], &mut i64); 13] {
    [
        (
            &["SCX_EV_SELECT_CPU_FALLBACK"],
            &mut counters.select_cpu_fallback,
        ),
        (
            &["SCX_EV_DISPATCH_LOCAL_DSQ_OFFLINE"],
            &mut counters.dispatch_local_dsq_offline,
        ),
        (
            &["SCX_EV_DISPATCH_KEEP_LAST"],
            &mut counters.dispatch_keep_last,
        ),
        (&["SCX_EV_ENQ_SKIP_EXITING"], &mut counters.enq_skip_exiting),
        (
            &["SCX_EV_ENQ_SKIP_MIGRATION_DISABLED"],
            &mut counters.enq_skip_migration_disabled,
        ),
        (&["SCX_EV_REENQ_IMMED"], &mut counters.reenq_immed),
        (
            &["SCX_EV_REENQ_REPEAT", "SCX_EV_REENQ_LOCAL_REPEAT"],
            &mut counters.reenq_local_repeat,
        ),
        (
            &["SCX_EV_REFILL_SLICE_DFL", "SCX_EV_ENQ_SLICE_DFL"],
            &mut counters.refill_slice_dfl,
        ),
        (&["SCX_EV_BYPASS_DURATION"], &mut counters.bypass_duration),
        (&["SCX_EV_BYPASS_DISPATCH"], &mut counters.bypass_dispatch),
        (&["SCX_EV_BYPASS_ACTIVATE"], &mut counters.bypass_activate),
        (&["SCX_EV_INSERT_NOT_OWNED"], &mut counters.insert_not_owned),
        (
            &["SCX_EV_SUB_BYPASS_DISPATCH"],
            &mut counters.sub_bypass_dispatch,
        ),
    ]
}
