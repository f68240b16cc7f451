//! Why a question to a capture has no answer. Every variant says what was asked and what was there.

use thiserror::Error;

/// Result of a question to a capture.
pub type SnapshotResult<T> = Result<T, SnapshotError>;

/// Why a question to a capture has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// No map has that name.
    #[error("no BPF map named `{requested}` in the capture; maps: {}", list(.available))]
    MapNotFound {
        /// Name asked for.
        requested: String,
        /// Names of the maps of the capture.
        available: Vec<String>,
    },
    /// No global section has a variable of that name.
    #[error("no global variable `{requested}` in any .bss, .data or .rodata map; variables: {}", list(.available))]
    VarNotFound {
        /// Name asked for.
        requested: String,
        /// Variables as `map:variable`.
        available: Vec<String>,
    },
    /// Several maps have the variable and the attached scheduler does not decide between them.
    #[error(
        "global variable `{requested}` is in several maps ({}) and the attached scheduler does not decide \
         between them; use live_var_via with a picker, or vars", list(.found_in)
    )]
    AmbiguousVar {
        /// Name asked for.
        requested: String,
        /// Maps that have it.
        found_in: Vec<String>,
    },
    /// A struct has no such member.
    #[error("`{requested}`: no member `{component}` in {container}; members: {}", list(.available))]
    FieldNotFound {
        /// Whole path asked for.
        requested: String,
        /// Component that was not found.
        component: String,
        /// What was searched.
        container: String,
        /// The names of the members that the struct has.
        available: Vec<String>,
    },
    /// A path goes on below something that has no members.
    #[error("`{requested}`: cannot look up `{component}` in {actual}, it has no members")]
    NotAStruct {
        /// Whole path asked for.
        requested: String,
        /// Component that could not be looked up.
        component: String,
        /// What was there instead of a struct.
        actual: String,
    },
    /// The value is there and has another type (or does not fit).
    #[error("`{requested}` cannot be read as {expected}: it is {actual}")]
    TypeMismatch {
        /// Path asked for.
        requested: String,
        /// Type asked for.
        expected: String,
        /// What was there.
        actual: String,
    },
    /// An index beyond the end.
    #[error("`{requested}`: index {index} is out of range, there are {len}")]
    IndexOutOfRange {
        /// What was indexed.
        requested: String,
        /// Index asked for.
        index: u64,
        /// Number of elements there are.
        len: u64,
    },
    /// The value of that CPU is not in the capture.
    #[error("`{requested}`: no value of CPU {cpu} in the capture ({available} CPUs have one)")]
    PerCpuSlot {
        /// What was indexed.
        requested: String,
        /// CPU asked for.
        cpu: usize,
        /// CPUs that have a value.
        available: usize,
    },
    /// No entry satisfies the predicate or the picker.
    #[error("`{requested}`: none of {candidates} candidates was chosen")]
    NoMatch {
        /// What was searched.
        requested: String,
        /// Entries that were offered.
        candidates: usize,
    },
    /// A path has an empty component.
    #[error("path `{requested}` has an empty component")]
    EmptyPathComponent {
        /// Path asked for.
        requested: String,
    },
    /// A per-CPU entry was asked for one value.
    #[error(
        "`{requested}` has a value for each of {cpus} CPUs; narrow with cpu(n) or use cpu_sum_u64 and the like"
    )]
    PerCpuNotNarrowed {
        /// What was asked for.
        requested: String,
        /// CPUs of the entry.
        cpus: usize,
    },
    /// The entry is there and has no rendered value.
    #[error("`{requested}` has no rendered value: {reason}")]
    NoRendered {
        /// What was asked for.
        requested: String,
        /// What the capture says instead of a value.
        reason: String,
    },
    /// The sample stands for a capture that could not be made.
    #[error("sample `{tag}` is a placeholder: {reason}")]
    PlaceholderSample {
        /// Tag of the sample.
        tag: String,
        /// Why there was no capture.
        reason: String,
    },
    /// The scheduler's statistics were not taken with the sample.
    #[error("sample `{tag}` has no scheduler statistics: {reason}")]
    MissingStats {
        /// Tag of the sample.
        tag: String,
        /// Which part of the statistics was not there, and when.
        reason: MissingStatsReason,
    },
    /// A kernel or host field is not in the capture.
    #[error("`{requested}` is not in the capture: {reason}")]
    HostFieldUnavailable {
        /// What was asked for.
        requested: String,
        /// What kept the field out of the capture.
        reason: String,
    },
    /// The capture is a placeholder.
    #[error("cannot look up `{requested}`: the capture is a placeholder ({reason})")]
    PlaceholderSnapshot {
        /// What was asked for.
        requested: String,
        /// Why there was no capture.
        reason: String,
    },
    /// No scheduler is known to be attached.
    #[error("cannot look up `{requested}` of the attached scheduler: {reason}")]
    NoActiveScheduler {
        /// What was asked for.
        requested: String,
        /// Why none is known.
        reason: String,
    },
    /// The name exists, but only in maps of other objects than the attached scheduler.
    #[error(
        "`{requested}` is not in the maps of the attached scheduler `{active}`; other maps have it: {}",
        list(.excluded)
    )]
    ActiveFilterExcludedMaps {
        /// What was asked for.
        requested: String,
        /// Object-name prefix of the attached scheduler.
        active: String,
        /// Maps left out by the filter.
        excluded: Vec<String>,
    },
    /// The structures walked changed identity between captures of one phase.
    #[error("`{requested}` changed from {before} to {after} within one phase")]
    WalkerDriftedWithinPhase {
        /// What was followed.
        requested: String,
        /// Identity at first.
        before: String,
        /// Identity in the later capture.
        after: String,
    },
    /// A projection's own code said no.
    #[error("projection `{requested}` failed: {reason}")]
    ProjectionFailed {
        /// Label of the projection.
        requested: String,
        /// What the projection said.
        reason: String,
    },
    /// The variable was not found, and a section that may hold it could not be rendered.
    #[error("no global variable `{requested}` found, but not every section could be rendered: {}", list(.failed))]
    MapRenderIncomplete {
        /// Name asked for.
        requested: String,
        /// Sections as `map: error`.
        failed: Vec<String>,
    },
}

/// Why a sample has no scheduler statistics.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MissingStatsReason {
    /// The test runs no scheduler.
    #[error("the test has no scheduler binary")]
    NoSchedulerBinary,
    /// The scheduler could not be asked.
    #[error("no scheduler to ask: {reason}")]
    NoScheduler {
        /// What kept the scheduler from being asked.
        reason: String,
    },
    /// The guest was already frozen.
    #[error("the guest was frozen before the statistics were asked for")]
    DuringFreeze,
    /// The request was given up.
    #[error("the request was cancelled")]
    Cancelled,
    /// The scheduler answered with an error.
    #[error("the scheduler answered with error {errno} to {args}")]
    SchedulerError {
        /// The error number that it answered with.
        errno: i32,
        /// The request's arguments.
        args: String,
    },
    /// The scheduler's answer holds no result.
    #[error("the scheduler's answer to {args} holds no result")]
    MissingResp {
        /// The request's arguments.
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

/// How many names a message lists before it only counts the rest.
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
