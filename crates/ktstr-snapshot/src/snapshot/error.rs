//! Errors of queries of a capture. Every variant names what was requested and what was found.

use thiserror::Error;

/// The result of a query of a capture.
pub type SnapshotResult<T> = Result<T, SnapshotError>;

/// Why a query of a capture failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// No map has the requested name.
    #[error("no BPF map named `{requested}` in the capture; maps: {}", list(.available))]
    MapNotFound {
        /// The name of the map that was requested.
        requested: String,
        /// The names of the maps of the capture.
        available: Vec<String>,
    },
    /// No global section has a variable of the requested name.
    #[error("no global variable `{requested}` in any .bss, .data or .rodata map; variables: {}", list(.available))]
    VarNotFound {
        /// The name of the variable that was requested.
        requested: String,
        /// The existing variables, each as `map:variable`. If only one copy of a BPF object was searched, these are the names of
        /// its maps instead.
        available: Vec<String>,
    },
    /// Several maps have the variable, and none or more than one of them belongs to the attached scheduler.
    #[error(
        "global variable `{requested}` is in several maps ({}) and the attached scheduler does not decide \
         between them; use live_var_via with a picker, or vars", list(.found_in)
    )]
    AmbiguousVar {
        /// The name of the variable that was requested.
        requested: String,
        /// The names of the maps that have the variable.
        found_in: Vec<String>,
    },
    /// A struct has no such member.
    #[error("`{requested}`: no member `{component}` in {container}; members: {}", list(.available))]
    FieldNotFound {
        /// The whole path that was requested, for the message.
        requested: String,
        /// The component of the path that was not found.
        component: String,
        /// A description of what was searched, such as `struct task_ctx`.
        container: String,
        /// The names of the members that the struct has.
        available: Vec<String>,
    },
    /// A path continues below a value that has no members, or indexes an array with a component that is not a number.
    #[error("`{requested}`: cannot look up `{component}` in {actual}")]
    NotAStruct {
        /// The whole path that was requested, for the message.
        requested: String,
        /// The component of the path that could not be looked up.
        component: String,
        /// What was found instead of a struct.
        actual: String,
    },
    /// The value has another type, or does not fit.
    #[error("`{requested}` cannot be read as {expected}: it is {actual}")]
    TypeMismatch {
        /// The path of the value that was to be converted.
        requested: String,
        /// What the value was to be converted to, such as `u64`.
        expected: String,
        /// A description of the value that was found instead.
        actual: String,
    },
    /// An index is beyond the end.
    #[error("`{requested}`: index {index} is out of range: there are {len} elements")]
    IndexOutOfRange {
        /// The name of what was indexed.
        requested: String,
        /// The index that was requested, counted from 0.
        index: u64,
        /// The number of elements.
        len: u64,
    },
    /// The value of the requested CPU is not in the capture.
    #[error("`{requested}`: no value of CPU {cpu} in the capture ({available} CPUs have one)")]
    PerCpuSlot {
        /// The name of what was indexed.
        requested: String,
        /// The number of the CPU that was requested.
        cpu: usize,
        /// The number of CPUs that have a value; if the CPU does not exist, the number of CPUs.
        available: usize,
    },
    /// No entry satisfies the predicate or the picker.
    #[error("`{requested}`: none of {candidates} candidates was chosen")]
    NoMatch {
        /// The name of what was searched.
        requested: String,
        /// The number of entries or copies that were searched.
        candidates: usize,
    },
    /// A path has an empty component.
    #[error("path `{requested}` has an empty component")]
    EmptyPathComponent {
        /// The whole path that was requested, with its empty component.
        requested: String,
    },
    /// A single value was requested from a per-CPU entry.
    #[error(
        "`{requested}` has a value for each of {cpus} CPUs; narrow with cpu(n) or use cpu_sum_u64 and the like"
    )]
    PerCpuNotNarrowed {
        /// The requested field or entry.
        requested: String,
        /// The number of CPUs of the entry.
        cpus: usize,
    },
    /// The entry exists but has no rendered value.
    #[error("`{requested}` has no rendered value: {reason}")]
    NoRendered {
        /// The requested field or entry.
        requested: String,
        /// The reason in the capture.
        reason: String,
    },
    /// The sample is a placeholder for a capture that could not be made.
    #[error("sample `{tag}` is a placeholder: {reason}")]
    PlaceholderSample {
        /// The tag of the sample.
        tag: String,
        /// Why there was no capture.
        reason: String,
    },
    /// The scheduler's statistics were not taken with the sample.
    #[error("sample `{tag}` has no scheduler statistics: {reason}")]
    MissingStats {
        /// The tag of the sample.
        tag: String,
        /// What prevented the statistics from being taken.
        reason: MissingStatsReason,
    },
    /// A kernel or host field is not in the capture.
    #[error("`{requested}` is not in the capture: {reason}")]
    HostFieldUnavailable {
        /// The requested field or entry.
        requested: String,
        /// Why the field is not in the capture.
        reason: String,
    },
    /// The capture is a placeholder.
    #[error("cannot look up `{requested}`: the capture is a placeholder ({reason})")]
    PlaceholderSnapshot {
        /// The requested field or entry.
        requested: String,
        /// Why there was no capture.
        reason: String,
    },
    /// The capture does not show an attached scheduler.
    #[error("cannot look up `{requested}` of the attached scheduler: {reason}")]
    NoActiveScheduler {
        /// The requested field or entry.
        requested: String,
        /// Why the capture does not show one.
        reason: String,
    },
    /// The name exists only in maps that do not belong to the attached scheduler, or no map of the capture
    /// belongs to that scheduler.
    #[error(
        "`{requested}` is not in the maps of the attached scheduler `{active}`; other maps have it: {}",
        list(.excluded)
    )]
    ActiveFilterExcludedMaps {
        /// The requested field or entry.
        requested: String,
        /// The object-name prefix of the attached scheduler; empty if it is unknown.
        active: String,
        /// The maps that the restriction to the attached scheduler leaves out.
        excluded: Vec<String>,
    },
    /// A structure that was followed had another identity in a later capture of the same phase.
    #[error("`{requested}` changed from {before} to {after} within one phase")]
    WalkerDriftedWithinPhase {
        /// The name of the structure that was followed.
        requested: String,
        /// The identity in the earlier capture.
        before: String,
        /// The identity in the later capture.
        after: String,
    },
    /// The code of a projection returned an error.
    #[error("projection `{requested}` failed: {reason}")]
    ProjectionFailed {
        /// The label of the projection.
        requested: String,
        /// The error of the projection.
        reason: String,
    },
    /// The variable was not found, and a section that may hold it could not be rendered.
    #[error("no global variable `{requested}` found, but not every section could be rendered: {}", list(.failed))]
    MapRenderIncomplete {
        /// The name of the variable that was requested.
        requested: String,
        /// The sections that could not be rendered, each as `map: error`.
        failed: Vec<String>,
    },
}

/// Why a sample has no scheduler statistics.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MissingStatsReason {
    /// The test runs no scheduler binary that could be asked for statistics.
    #[error("the test has no scheduler binary")]
    NoSchedulerBinary,
    /// The scheduler could not be queried.
    #[error("there are no statistics of the scheduler: {reason}")]
    NoScheduler {
        /// Why the scheduler could not be queried.
        reason: String,
    },
    /// The guest was already frozen.
    #[error("the guest was frozen before the statistics were asked for")]
    DuringFreeze,
    /// The request was given up.
    #[error("the request was cancelled")]
    Cancelled,
    /// The scheduler answered with an error.
    #[error("the scheduler answered with error {errno}: {args}")]
    SchedulerError {
        /// The error number that it answered with.
        errno: i32,
        /// The arguments of its answer as JSON, which usually contain its message.
        args: String,
    },
    /// The scheduler's answer holds no result.
    #[error("the scheduler's answer has no `resp`: {args}")]
    MissingResp {
        /// The arguments of its answer as JSON.
        args: String,
    },
    /// The request does not fit the transport.
    #[error("the request does not fit the transport")]
    RequestTooLarge,
    /// The answer does not fit the transport.
    #[error("the answer does not fit the transport")]
    ResponseTooLarge,
    /// A thread of the harness panicked while it held the connection.
    #[error("the connection to the scheduler was lost to a panic")]
    MutexPoisoned,
}

/// The number of names that a message lists before it only counts the rest.
const LISTED: usize = 40;

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "(none)".to_owned();
    }
    let shown = names.iter().take(LISTED).map(String::as_str);
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(" and {} more", names.len() - LISTED));
    }
    text
}
