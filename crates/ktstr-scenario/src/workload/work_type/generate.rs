//! The code that is made from the table of work types (`work_type/table.rs`): the enum with its constructors, names, defaults,
//! group sizes, checks and text.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::parts::{AluWidth, FutexLockMode, ReapMode, WakeMechanism, WorkPhase};
use super::rules::{self, Checked};
use crate::text::{Fields, Names, Node, Shape, Text, TextError, Unsayable, put_variant, variant};
use crate::workload::SchedClass;
use crate::workload::bench::{SchbenchConfig, TaobenchConfig};
use crate::workload::custom::{CustomCfg, CustomFn};
use crate::workload::rt_app::RtPhase;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Generates the constructor of a variant. Nothing is generated for a row that has `none` in place of the constructor's name,
/// because that constructor is written by hand.
macro_rules! ctor {
    (none $variant:ident $($rest:tt)*) => {};
    ($ctor:ident $variant:ident $({ $($field:ident: $ty:ty),+ })?) => {
        #[doc = concat!("[`WorkType::", stringify!($variant), "`] with these parameters.")]
        pub const fn $ctor($($($field: $ty),+)?) -> Self {
            Self::$variant $({ $($field),+ })?
        }
    };
}

/// Generates the enum and everything that belongs to it from the rows of `work_type_table!`; see there for an example
/// and for how to add a work type. The two work types whose parameters have no default, `Sequence` and `Custom`, are
/// written out here.
macro_rules! work_types {
    ($(
        $(#[$meta:meta])+
        $variant:ident / $ctor:ident $(($bench:ident))? $([$group:expr])?
            => $file:ident::$body:ident($($param:expr),*) $(, wakes $graph:ident)? $(, peers $peers:ident)?
        $({ $(
            $(#[doc = $fdoc:literal])+
            $field:ident: $ty:ty = $default:expr $(=> $rule:ident)?
        ),+ $(,)? })?
    ;)+) => {
        /// The work that a worker repeats until it is stopped.
        // Two custom work types are equal if, among other things, they call the same function. The compiler may merge or
        // duplicate functions, but no decision depends on that.
        #[allow(unpredictable_function_pointer_comparisons)]
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum WorkType {
            /// Repeats a sequence of phases: `first`, then `rest`.
            Sequence {
                /// The phase with which each repetition begins.
                first: WorkPhase,
                /// The phases after it.
                rest: Vec<WorkPhase>,
            },
            /// Calls a function of the test once; see [`CustomFn`]. This work type cannot be serialized.
            #[serde(skip)]
            Custom {
                /// The name by which messages and texts refer to the work type.
                name: String,
                /// The function. It runs in the worker's process.
                run: CustomFn,
                /// The parameters, which the function gets from [`WorkerCtx::cfg`](crate::workload::WorkerCtx::cfg).
                cfg: CustomCfg,
            },
            $(
                $(#[$meta])+
                $variant $({ $( $(#[doc = $fdoc])+ $field: $ty ),+ })?,
            )+
        }

        impl WorkType {
            /// The names of all work types, as [`WorkType::name`] gives them.
            pub const ALL_NAMES: &'static [&'static str] =
                &["Sequence", "Custom", $(stringify!($variant)),+];

            /// Returns the name of the variant, such as `SpinWait`.
            pub const fn name(&self) -> &'static str {
                match self {
                    Self::Sequence { .. } => "Sequence",
                    Self::Custom { .. } => "Custom",
                    $(Self::$variant $({ $($field: _),+ })? => stringify!($variant),)+
                }
            }

            /// Returns the work type of this exact name with default parameters; `None` for an unknown name, and for
            /// `Sequence` and `Custom`, which have no default.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($variant) => {
                        Some(Self::$variant $({ $($field: $default),+ })?)
                    })+
                    _ => None,
                }
            }

            /// Returns the number of workers per group; `None` if each worker works alone, and for benchmarks, all of whose
            /// workers form one group.
            #[allow(unused_variables)]
            pub const fn worker_group_size(&self) -> Option<usize> {
                match self {
                    Self::Sequence { .. } | Self::Custom { .. } => None,
                    $(Self::$variant $({ $($field),+ })? => work_types!(@group $($group)?),)+
                }
            }

            /// Returns the number of workers that a benchmark starts for its one declared worker on `cpus` CPUs; `None` if
            /// the work type is not a benchmark.
            #[allow(unused_variables)]
            pub const fn tasks(&self, cpus: usize) -> Option<usize> {
                match self {
                    Self::Sequence { .. } | Self::Custom { .. } => None,
                    $(Self::$variant $({ $($field),+ })? => work_types!(@tasks cpus $($bench)?),)+
                }
            }

            /// Checks each parameter by its rule.
            #[allow(unused_variables)]
            pub(super) fn parameters(&self) -> Checked {
                let work_type = self.name();
                match self {
                    Self::Sequence { first, rest } => {
                        for phase in std::iter::once(first).chain(rest) {
                            let duration = phase.duration();
                            rules::nonzero(&duration, work_type, "the duration of a phase")?;
                        }
                    }
                    Self::Custom { .. } => {}
                    $(Self::$variant $({ $($field),+ })? => {
                        $($( $(rules::$rule($field, work_type, stringify!($field))?;)? )+)?
                    })+
                }
                Ok(())
            }

            $(ctor! { $ctor $variant $({ $($field: $ty),+ })? })+
        }

        impl Text for WorkType {
            fn expected() -> String {
                "a work type such as \"spin_wait\" or { pipe_io = { burst_iters = 64 } }".to_owned()
            }

            fn put(&self) -> Result<Node, Unsayable> {
                Ok(match self {
                    Self::Sequence { first, rest } => {
                        let phases = std::iter::once(first).chain(rest).copied();
                        put_variant("Sequence", Some(phases.collect::<Vec<_>>().put()?))
                    }
                    Self::Custom { name, .. } => put_variant("Custom", Some(name.put()?)),
                    $(Self::$variant $({ $($field),+ })? => put_variant(
                        stringify!($variant),
                        work_types!(@put $($($field)+)?),
                    ),)+
                })
            }

            #[allow(unused_variables)]
            fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
                let all = &[
                    ("Sequence", Shape::Value),
                    ("Custom", Shape::Value),
                    $((stringify!($variant), work_types!(@shape $($($field)+)?))),+
                ];
                let (name, value) = variant(node, "a work type", all)?;
                match (name, value) {
                    ("Sequence", Some(value)) => {
                        let mut phases = Vec::<WorkPhase>::take(value, names)?.into_iter();
                        let first = phases.next();
                        Ok(Self::Sequence {
                            first: first.ok_or_else(|| value.error("a sequence needs a phase"))?,
                            rest: phases.collect(),
                        })
                    }
                    ("Custom", Some(value)) => names.find_work(value),
                    $((stringify!($variant), value) => {
                        $(
                            let none = Node::table(Vec::new());
                            let known = &[$(stringify!($field)),+];
                            let fields = Fields::of(value.unwrap_or(&none), known, names)?;
                        )?
                        Ok(Self::$variant $({
                            $($field: fields.or(stringify!($field), || $default)?),+
                        })?)
                    })+
                    _ => Err(node.expected(&Self::expected())),
                }
            }
        }
    };
    (@put) => { None };
    (@put $($field:ident)+) => {
        Some(Node::table(vec![$((stringify!($field).to_owned(), $field.put()?)),+]))
    };
    (@shape) => { Shape::Word };
    (@shape $($field:ident)+) => { Shape::Either };
    (@tasks $cpus:ident) => { None };
    (@tasks $cpus:ident $bench:ident) => { Some($bench.tasks($cpus)) };
    (@group) => { None };
    (@group $group:expr) => { Some($group) };
}

crate::work_type_table!(work_types);

impl WorkType {
    /// [`WorkType::CgroupAttachStorm`] with these parameters.
    pub fn cgroup_attach_storm(dest: impl Into<String>, reap: ReapMode) -> Self {
        Self::CgroupAttachStorm {
            dest: dest.into(),
            reap,
        }
    }

    /// [`WorkType::IpcVariance`] with these parameters.
    ///
    /// # Errors
    /// [`WorkTypeValidationError`](super::WorkTypeValidationError) if one of the parameters is 0.
    pub fn ipc_variance(
        hot_iters: u64,
        cold_iters: u64,
        period_iters: u64,
    ) -> Result<Self, super::WorkTypeValidationError> {
        let work = Self::IpcVariance {
            hot_iters,
            cold_iters,
            period_iters,
        };
        work.parameters().map(|()| work)
    }
}
