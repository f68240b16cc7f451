//! Queries of a capture: global variables, maps, kernel state.
//!
//! A [`Snapshot`] borrows a [`FailureDumpReport`] and reads nothing else. Look-ups can be chained: a chain keeps its first
//! error, which names what was requested and what was found.

mod entry;
mod error;
mod field;
mod json;
mod map;
pub mod pickers;
#[cfg(test)]
mod tests;

pub use entry::SnapshotEntry;
pub use error::{MissingStatsReason, SnapshotError, SnapshotResult};
pub use field::SnapshotField;
pub use json::{JsonField, stats_path};
pub use map::SnapshotMap;

use crate::report::{
    FailureDumpMap, FailureDumpReport, PerCpuTimeStats, PerNodeNumaStats, ProgRuntimeStats,
    RenderedMember, TaskEnrichment,
};

/// The suffixes of the names of maps that hold global variables.
const SECTIONS: [&str; 3] = [".bss", ".data", ".rodata"];

/// A query interface to one capture; cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot<'a> {
    report: &'a FailureDumpReport,
    active_only: bool,
}

impl<'a> Snapshot<'a> {
    /// Creates a view of the whole report.
    pub fn new(report: &'a FailureDumpReport) -> Self {
        Self {
            report,
            active_only: false,
        }
    }

    /// Returns the whole report, even if this view is restricted to the attached scheduler.
    pub fn report(&self) -> &'a FailureDumpReport {
        self.report
    }

    /// Returns whether this is a placeholder for a capture that could not be made.
    pub fn is_placeholder(&self) -> bool {
        self.report.is_placeholder
    }

    /// Returns the number of maps in this view.
    pub fn map_count(&self) -> usize {
        self.maps().count()
    }

    /// Returns the view narrowed to the maps of the attached scheduler.
    ///
    /// # Errors
    /// If the capture is a placeholder, if it does not show an attached scheduler, or if it has maps but none
    /// of that scheduler.
    pub fn active(&self) -> SnapshotResult<Snapshot<'a>> {
        self.active_for("active()")
    }

    /// Returns the first map with exactly that name.
    ///
    /// # Errors
    /// If this view has no such map. The error names the maps of the view, or says that the map belongs to another object.
    pub fn map(&self, name: &str) -> SnapshotResult<SnapshotMap<'a>> {
        self.not_placeholder(name)?;
        if let Some(map) = self.maps().find(|map| map.name == name) {
            return Ok(SnapshotMap::new(map));
        }
        let excluded = self.excluded(|map| map.name == name);
        if !excluded.is_empty() {
            return Err(self.excluded_error(name, excluded));
        }
        Err(SnapshotError::MapNotFound {
            requested: name.to_owned(),
            available: self.maps().map(|map| map.name.clone()).collect(),
        })
    }

    /// Returns the global variable `name`, searched in every `.bss`, `.data` and `.rodata` map.
    ///
    /// If several maps have the variable, the copy of the attached scheduler is returned; if the attached scheduler has no
    /// copy or several, the field is missing with [`SnapshotError::AmbiguousVar`].
    pub fn var(&self, name: &str) -> SnapshotField<'a> {
        self.find_var(name).unwrap_or_else(SnapshotField::Missing)
    }

    /// Returns every copy of the global variable `name` with the name of its map, in the order of the maps.
    pub fn vars(&self, name: &str) -> impl Iterator<Item = (&'a str, SnapshotField<'a>)> + use<'a> {
        let name = name.to_owned();
        self.sections().filter_map(move |map| {
            let member = members(map).iter().find(|member| member.name == name)?;
            Some((map.name.as_str(), SnapshotField::new(&*name, &member.value)))
        })
    }

    /// Returns the global variable `name` of the attached scheduler.
    pub fn live_var(&self, name: &str) -> SnapshotField<'a> {
        match self.active_for(name) {
            Ok(active) => active.var(name),
            Err(error) => SnapshotField::Missing(error),
        }
    }

    /// Returns the copy of the global variable `name` that `picker` chooses, for captures in which several copies of a
    /// scheduler are loaded.
    ///
    /// `picker` gets the copies as (map name, field) and returns the index of one. If it returns `None`, or an index that is
    /// out of range, the field is missing. The module [`pickers`] has ready-made pickers.
    pub fn live_var_via(
        &self,
        name: &str,
        picker: impl FnOnce(&[(&str, SnapshotField<'_>)]) -> Option<usize>,
    ) -> SnapshotField<'a> {
        if let Err(error) = self.not_placeholder(name) {
            return SnapshotField::Missing(error);
        }
        let copies: Vec<_> = self.vars(name).collect();
        if copies.is_empty() {
            return SnapshotField::Missing(self.var_not_found(name));
        }
        let len = copies.len();
        match pick(name, picker(&copies), len) {
            Ok(index) => copies
                .into_iter()
                .nth(index)
                .map_or_else(|| SnapshotField::Missing(no_match(name, len)), |(_, f)| f),
            Err(error) => SnapshotField::Missing(error),
        }
    }

    /// Returns several global variables, all from the copy of the object that `picker` chooses, in the order of `names`.
    ///
    /// `picker` gets for each copy the fields in the order of `names`, together with the name of the map that holds the first
    /// variable that was found. It returns the index of a copy. If it returns `None`, or an index that is out of range, all
    /// fields are missing.
    pub fn live_vars_via(
        &self,
        names: &[&str],
        picker: impl FnOnce(&[(&str, Vec<SnapshotField<'_>>)]) -> Option<usize>,
    ) -> Vec<SnapshotField<'a>> {
        let requested = names.join(", ");
        let all = |error: SnapshotError| {
            let missing = SnapshotField::Missing(error);
            names.iter().map(|_| missing.clone()).collect::<Vec<_>>()
        };
        if let Err(error) = self.not_placeholder(&requested) {
            return all(error);
        }
        let copies = self.copies_with(names);
        if copies.is_empty() {
            return all(self.var_not_found(&requested));
        }
        let len = copies.len();
        match pick(&requested, picker(&copies), len) {
            Ok(index) => copies
                .into_iter()
                .nth(index)
                .map_or_else(|| all(no_match(&requested, len)), |(_, fields)| fields),
            Err(error) => all(error),
        }
    }

    /// Returns the times of CPU `cpu` in user and system mode, idle, and so on, with its interrupt counters; an error if the
    /// capture does not have them.
    pub fn per_cpu_time_at(&self, cpu: u32) -> SnapshotResult<&'a PerCpuTimeStats> {
        let all = &self.report.per_cpu_time;
        all.iter().find(|stats| stats.cpu == cpu).ok_or_else(|| {
            if all.is_empty() {
                host_field("per_cpu_time", all.reason())
            } else {
                SnapshotError::IndexOutOfRange {
                    requested: "per_cpu_time".to_owned(),
                    index: u64::from(cpu),
                    len: all.len() as u64,
                }
            }
        })
    }

    /// Returns the allocation counters of the NUMA node `node`, or an error if the capture does not have them.
    pub fn per_node_numa_at(&self, node: u32) -> SnapshotResult<&'a PerNodeNumaStats> {
        let all = &self.report.per_node_numa;
        all.iter().find(|stats| stats.node == node).ok_or_else(|| {
            if all.is_empty() {
                host_field("per_node_numa", all.reason())
            } else {
                SnapshotError::IndexOutOfRange {
                    requested: "per_node_numa".to_owned(),
                    index: u64::from(node),
                    len: all.len() as u64,
                }
            }
        })
    }

    /// Returns the task with the thread id `pid`; `None` if the capture does not have it.
    pub fn task_enrichment_by_pid(&self, pid: i32) -> Option<&'a TaskEnrichment> {
        self.task_enrichments().iter().find(|task| task.pid == pid)
    }

    /// Returns the run-time statistics of the first BPF program with exactly this name; `None` if there is none. The kernel keeps
    /// only the first 15 bytes of a program's name, so a longer name never matches.
    pub fn prog_runtime_stats_by_name(&self, name: &str) -> Option<&'a ProgRuntimeStats> {
        self.prog_runtime_stats().iter().find(|p| p.name == name)
    }

    /// Returns why there are no maps; `None` if they could be listed.
    pub fn maps_unavailable(&self) -> Option<&'a str> {
        self.report.maps_unavailable.as_deref()
    }

    fn maps(&self) -> impl Iterator<Item = &'a FailureDumpMap> + use<'a> {
        let (report, active_only) = (self.report, self.active_only);
        report
            .maps
            .iter()
            .filter(move |map| !active_only || is_active(report, map))
    }

    fn sections(&self) -> impl Iterator<Item = &'a FailureDumpMap> + use<'a> {
        self.maps().filter(|map| is_section(map))
    }

    fn not_placeholder(&self, requested: &str) -> SnapshotResult<()> {
        if !self.report.is_placeholder {
            return Ok(());
        }
        Err(SnapshotError::PlaceholderSnapshot {
            requested: requested.to_owned(),
            reason: self
                .report
                .placeholder_reason
                .clone()
                .unwrap_or_else(|| "no reason was recorded".to_owned()),
        })
    }

    fn active_for(&self, requested: &str) -> SnapshotResult<Snapshot<'a>> {
        self.not_placeholder(requested)?;
        let report = self.report;
        if report.active_map_kvas.is_empty() && report.active_obj_name.is_none() {
            return Err(SnapshotError::NoActiveScheduler {
                requested: requested.to_owned(),
                reason: report
                    .active_unavailable
                    .clone()
                    .unwrap_or_else(|| "no sched_ext scheduler is attached".to_owned()),
            });
        }
        let narrowed = Snapshot {
            report,
            active_only: true,
        };
        if narrowed.map_count() == 0 && !report.maps.is_empty() {
            let all = report.maps.iter().map(|map| map.name.clone()).collect();
            return Err(narrowed.excluded_error(requested, all));
        }
        Ok(narrowed)
    }

    fn find_var(&self, name: &str) -> SnapshotResult<SnapshotField<'a>> {
        self.not_placeholder(name)?;
        if name.is_empty() {
            return Err(SnapshotError::EmptyPathComponent {
                requested: name.to_owned(),
            });
        }
        let mut hits = self.vars(name);
        let first = hits.next();
        let rest: Vec<_> = hits.collect();
        let Some((first_map, field)) = first else {
            return Err(self.var_not_found(name));
        };
        if rest.is_empty() {
            return Ok(field);
        }
        if !self.active_only
            && let Ok(active) = self.active_for(name)
        {
            let mut live = active.vars(name);
            if let (Some((_, field)), None) = (live.next(), live.next()) {
                return Ok(field);
            }
        }
        let found_in = std::iter::once(first_map).chain(rest.iter().map(|(map, _)| *map));
        Err(SnapshotError::AmbiguousVar {
            requested: name.to_owned(),
            found_in: found_in.map(str::to_owned).collect(),
        })
    }

    fn var_not_found(&self, name: &str) -> SnapshotError {
        let failed: Vec<String> = self
            .sections()
            .filter_map(|map| match (&map.error, &map.value) {
                (Some(error), _) => Some(format!("{}: {error}", map.name)),
                (None, None) => Some(format!("{}: not rendered", map.name)),
                (None, Some(_)) => None,
            })
            .collect();
        if !failed.is_empty() {
            return SnapshotError::MapRenderIncomplete {
                requested: name.to_owned(),
                failed,
            };
        }
        let excluded = self.excluded(|map| {
            is_section(map) && members(map).iter().any(|member| member.name == name)
        });
        if !excluded.is_empty() {
            return self.excluded_error(name, excluded);
        }
        let variables = self.sections().flat_map(|map| {
            members(map)
                .iter()
                .map(|member| format!("{}:{}", map.name, member.name))
        });
        SnapshotError::VarNotFound {
            requested: name.to_owned(),
            available: variables.collect(),
        }
    }

    /// Returns the names of the maps that satisfy `pred` and are outside of this view.
    fn excluded(&self, pred: impl Fn(&FailureDumpMap) -> bool) -> Vec<String> {
        if !self.active_only {
            return Vec::new();
        }
        let outside = self.report.maps.iter();
        outside
            .filter(|map| !is_active(self.report, map) && pred(map))
            .map(|map| map.name.clone())
            .collect()
    }

    fn excluded_error(&self, requested: &str, excluded: Vec<String>) -> SnapshotError {
        SnapshotError::ActiveFilterExcludedMaps {
            requested: requested.to_owned(),
            active: self.report.active_obj_name.clone().unwrap_or_default(),
            excluded,
        }
    }

    /// Returns the copies of an object that have at least one of `names`: for each copy, the map of the first variable that was
    /// found, and a field for each name.
    fn copies_with(&self, names: &[&str]) -> Vec<(&'a str, Vec<SnapshotField<'a>>)> {
        let mut copies = Vec::new();
        for sections in object_copies(self.sections()) {
            let mut label = None;
            let fields = names
                .iter()
                .map(|name| {
                    let hit = sections.iter().find_map(|map| {
                        let member = members(map).iter().find(|member| member.name == *name)?;
                        Some((map.name.as_str(), &member.value))
                    });
                    match hit {
                        Some((map, value)) => {
                            label.get_or_insert(map);
                            SnapshotField::new(*name, value)
                        }
                        None => SnapshotField::Missing(SnapshotError::VarNotFound {
                            requested: (*name).to_owned(),
                            available: sections.iter().map(|map| map.name.clone()).collect(),
                        }),
                    }
                })
                .collect::<Vec<_>>();
            if let Some(label) = label {
                copies.push((label, fields));
            }
        }
        copies
    }
}

fn is_section(map: &FailureDumpMap) -> bool {
    SECTIONS.iter().any(|ending| map.name.ends_with(ending))
}

/// Returns whether the map belongs to the attached scheduler: by its address if the report has the addresses of the scheduler's
/// maps, and otherwise by the object's name.
fn is_active(report: &FailureDumpReport, map: &FailureDumpMap) -> bool {
    if !report.active_map_kvas.is_empty() {
        return report.active_map_kvas.contains(&map.map_kva);
    }
    report
        .active_obj_name
        .as_deref()
        .is_some_and(|object| object_name(map) == object)
}

fn object_name(map: &FailureDumpMap) -> &str {
    map.name.split('.').next().unwrap_or_default()
}

fn members(map: &FailureDumpMap) -> &[RenderedMember] {
    map.value
        .as_ref()
        .and_then(field::members_of)
        .unwrap_or_default()
}

/// Groups section maps by object copy: the loader creates the sections of one object one after the other, so a section name that
/// occurs again belongs to the next copy.
fn object_copies<'a>(
    sections: impl Iterator<Item = &'a FailureDumpMap>,
) -> Vec<Vec<&'a FailureDumpMap>> {
    let mut copies: Vec<Vec<&FailureDumpMap>> = Vec::new();
    for map in sections {
        let open = copies.iter_mut().rev().find(|copy| {
            copy.iter()
                .any(|other| object_name(other) == object_name(map))
        });
        match open {
            Some(copy) if copy.iter().all(|other| other.name != map.name) => copy.push(map),
            _ => copies.push(vec![map]),
        }
    }
    copies
}

fn pick(requested: &str, choice: Option<usize>, len: usize) -> SnapshotResult<usize> {
    match choice {
        Some(index) if index < len => Ok(index),
        Some(index) => Err(SnapshotError::IndexOutOfRange {
            requested: requested.to_owned(),
            index: index as u64,
            len: len as u64,
        }),
        None => Err(no_match(requested, len)),
    }
}

fn no_match(requested: &str, candidates: usize) -> SnapshotError {
    SnapshotError::NoMatch {
        requested: requested.to_owned(),
        candidates,
    }
}

pub(crate) fn host_field(requested: &str, reason: Option<&str>) -> SnapshotError {
    SnapshotError::HostFieldUnavailable {
        requested: requested.to_owned(),
        reason: reason.unwrap_or("it was not captured").to_owned(),
    }
}

/// Returns the dotted path of a member of the value at `base`, which is empty for the value at the root.
fn below(base: &str, member: &str) -> String {
    if base.is_empty() {
        member.to_owned()
    } else {
        format!("{base}.{member}")
    }
}
