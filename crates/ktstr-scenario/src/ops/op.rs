//! The code that is made from the table of operations (`ops/table.rs`): the enum with its constructors, names, numbers and
//! text, and the list of functions that the guest's engine fills in.

use std::borrow::Cow;
use std::time::Duration;

use super::cgroup_def::CgroupDef;
use super::cpuset::CpusetSpec;
use super::kernel::{KernelTarget, KernelValue, KernelValueWidth};
use super::op_types::{CpusetPartition, IrqSelector, SpawnPlacement};
use crate::cgroup::Controller;
use crate::payload::Payload;
use crate::scheduler::Scheduler;
use crate::workload::{AffinityIntent, SchedPolicy, WorkSpec, WorkType};

/// Expands to the Rust type of a field, from the short form in which the table writes the type.
macro_rules! field {
    (text) => { Cow<'static, str> };
    (($of:ty)) => { $of };
    ([$of:ty]) => { Option<$of> };
    ({$of:ty}) => { Vec<$of> };
}

/// Expands to the type to which the function of an operation gets a reference: `str` for a text, a slice for a list, and
/// otherwise the type of the field.
macro_rules! passed {
    (text) => { str };
    (($of:ty)) => { $of };
    ([$of:ty]) => { Option<$of> };
    ({$of:ty}) => { [$of] };
}

/// Expands to the type of a constructor's argument for a field.
macro_rules! argument {
    (text) => { impl Into<Cow<'static, str>> };
    (($of:ty)) => { $of };
    ([$of:ty]) => { impl Into<Option<$of>> };
    ({$of:ty}) => { Vec<$of> };
}

/// Converts a constructor's argument to the value of the field.
macro_rules! value {
    (($of:ty) $argument:ident) => {
        $argument
    };
    ({$of:ty} $argument:ident) => {
        $argument
    };
    ($kind:tt $argument:ident) => {
        $argument.into()
    };
}

/// Writes the text of a field.
macro_rules! put {
    ([$of:ty] $field:ident) => {
        $field.as_ref().map(crate::text::Text::put).transpose()?
    };
    ($kind:tt $field:ident) => {
        Some(crate::text::Text::put($field)?)
    };
}

/// Reads a field from its text. Lists and optional fields may be left out.
macro_rules! take {
    ([$of:ty] $given:expr, $op:ident, $field:expr, $names:ident) => {
        match $given {
            Some(given) => Some(crate::text::Text::take(given, $names)?),
            None => None,
        }
    };
    ({$of:ty} $given:expr, $op:ident, $field:expr, $names:ident) => {
        match $given {
            Some(given) => crate::text::Text::take(given, $names)?,
            None => Vec::new(),
        }
    };
    ($kind:tt $given:expr, $op:ident, $field:expr, $names:ident) => {
        crate::text::needed($given, $op, $field, $names)?
    };
}

/// Expands to `true` if a row has the clause `is once`, otherwise to `false`.
macro_rules! once {
    () => {
        false
    };
    (once) => {
        true
    };
}

/// Generates the enum and everything that belongs to it from the rows of `op_table!`; see there for an example and for how
/// to add an operation.
macro_rules! ops {
    ($(
        $(#[$doc:meta])+
        $number:literal $constructor:ident $name:ident => $file:ident::$function:ident
            $(, needs $controller:ident)? $(, effect $effect:ident)? $(, is $once:ident)?
        $({
            $( $(#[$field_doc:meta])+ $field:ident: $kind:tt $(=> $rule:ident)? ),* $(,)?
        })?;
    )*) => {
        /// One operation of a step or of a backdrop.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Op {
            $( $(#[$doc])+ $name $({ $( $(#[$field_doc])+ $field: field!($kind) ),* })?, )*
        }

        impl Op {
            $(
                $(#[$doc])+
                pub fn $constructor($($($field: argument!($kind)),*)?) -> Self {
                    Self::$name $({ $( $field: value!($kind $field) ),* })?
                }
            )*

            /// Returns the number of the operation. It is below 64 and never changes, because it is the position of the
            /// operation's bit in a mask of 64 bits that is recorded for each step.
            pub const fn wire_index(&self) -> u8 {
                match self { $( Self::$name { .. } => $number, )* }
            }

            /// Returns the name of the variant, such as `SetCpuset`.
            pub const fn name(&self) -> &'static str {
                match self { $( Self::$name { .. } => stringify!($name), )* }
            }

            /// Returns the controller that must be enabled for the operation. `None` means that the operation needs no
            /// controller, that it only undoes a setting, or that its fields determine the controllers (`AddCgroupDef`).
            pub fn controller(&self) -> Option<Controller> {
                match self {
                    $( Self::$name { .. } => [$( Controller::$controller )?].into_iter().next(), )*
                }
            }

            /// Returns whether the operation stores its result under a tag or a name, so that a step that loops
            /// cannot contain it.
            pub const fn is_once(&self) -> bool {
                match self { $( Self::$name { .. } => once!($($once)?), )* }
            }

            /// Calls the function of this operation with its fields.
            pub fn run<C, O>(&self, functions: &OpFunctions<C, O>, context: &mut C) -> O {
                match self { $(
                    Self::$name $({ $( $field ),* })? => (functions.$constructor)(context, $($( $field ),*)?),
                )* }
            }
        }

        impl crate::text::Text for Op {
            fn expected() -> String {
                "an operation such as { freeze_cgroup = \"a\" }".to_owned()
            }

            fn put(&self) -> Result<crate::text::Node, crate::text::Unsayable> {
                Ok(match self { $( Self::$name $({ $( $field ),* })? => {
                    crate::text::put_operation(
                        stringify!($name),
                        vec![$($( (stringify!($field), put!($kind $field)) ),*)?],
                    )
                } )* })
            }

            #[allow(unused_mut, unused_variables)]
            fn take(
                node: &crate::text::Node,
                names: &crate::text::Names,
            ) -> Result<Self, crate::text::TextError> {
                let (name, given) = crate::text::operation(node, FIELDS, names)?;
                let mut given = given.into_iter();
                match name {
                    $( stringify!($name) => Ok(Self::$name $({ $(
                        $field: take!($kind given.next().flatten(), node, stringify!($field), names)
                    ),* })?), )*
                    _ => Err(node.expected(&Self::expected())),
                }
            }
        }

        /// The fields of each operation, for its text.
        const FIELDS: &[(&str, &[&str])] =
            &[$( (stringify!($name), &[$($( stringify!($field) ),*)?]) ),*];

        /// The functions that carry out the operations, one for each. `C` is the state that they work on, `O` their result.
        pub struct OpFunctions<C, O> {
            $(
                $(#[$doc])+
                pub $constructor: fn(&mut C, $($( &passed!($kind) ),*)?) -> O,
            )*
        }

        #[cfg(test)]
        pub(super) const NUMBERS: &[(u8, &str)] = &[$( ($number, stringify!($name)) ),*];
    };
}

crate::op_table!(ops);

impl Op {
    /// Starts a program of the host in the harness's own cgroup, in the background; see [`Op::RunPayload`].
    pub fn run_payload(payload: &'static Payload, args: Vec<String>) -> Self {
        Self::run_payload_in(payload, args, None)
    }

    /// Starts a program of the host in a cgroup, in the background; see [`Op::RunPayload`].
    pub fn run_payload_in_cgroup(
        payload: &'static Payload,
        args: Vec<String>,
        cgroup: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::run_payload_in(payload, args, Some(cgroup.into()))
    }

    /// Waits until the only program of this name has exited, and checks its result; see [`Op::WaitPayload`].
    pub fn wait_payload(name: impl Into<Cow<'static, str>>) -> Self {
        Self::wait_payload_in(name, None)
    }

    /// Waits until the program of this name in this cgroup has exited, and checks its result; see [`Op::WaitPayload`].
    pub fn wait_payload_in_cgroup(
        name: impl Into<Cow<'static, str>>,
        cgroup: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::wait_payload_in(name, Some(cgroup.into()))
    }

    /// Kills the only program of this name; see [`Op::KillPayload`].
    pub fn kill_payload(name: impl Into<Cow<'static, str>>) -> Self {
        Self::kill_payload_in(name, None)
    }

    /// Kills the program of this name in this cgroup; see [`Op::KillPayload`].
    pub fn kill_payload_in_cgroup(
        name: impl Into<Cow<'static, str>>,
        cgroup: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::kill_payload_in(name, Some(cgroup.into()))
    }

    /// Writes one value to the kernel's memory; see [`Op::WriteKernelHot`].
    pub fn write_kernel_hot(target: KernelTarget, value: KernelValue) -> Self {
        Self::write_kernel_hot_batch(vec![(target, value)])
    }

    /// Writes one value to the kernel's memory while the guest is stopped; see [`Op::WriteKernelCold`].
    pub fn write_kernel_cold(target: KernelTarget, value: KernelValue) -> Self {
        Self::write_kernel_cold_batch(vec![(target, value)])
    }

    /// Starts a group of workers in a cgroup, in addition to the workers that run there already.
    pub fn spawn_workers(cgroup: impl Into<Cow<'static, str>>, work: WorkSpec) -> Self {
        Self::spawn(SpawnPlacement::cgroup(cgroup), work)
    }

    /// Starts a default group of workers with this work type in a cgroup.
    pub fn spawn_in_cgroup(cgroup: impl Into<Cow<'static, str>>, work_type: WorkType) -> Self {
        Self::spawn_workers(cgroup, WorkSpec::new(work_type))
    }

    /// Starts a group of workers in the harness's own cgroup.
    pub fn spawn_host(work: WorkSpec) -> Self {
        Self::spawn(SpawnPlacement::RunnerCgroup, work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constructors_take_what_people_write() {
        let ms = Duration::from_millis;
        let limited = Op::set_cpu_max("a", ms(10), ms(100));
        assert_eq!(limited.name(), "SetCpuMax");
        assert_eq!(limited.controller(), Some(Controller::Cpu));
        assert_eq!(
            Op::set_cpu_max("a", None, ms(100)),
            Op::SetCpuMax {
                cgroup: "a".into(),
                quota: None,
                period: ms(100),
            }
        );
        assert_eq!(Op::kill_cgroup("a").controller(), None);
    }
}
