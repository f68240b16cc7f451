//! The functions that carry out the operations of steps and of the backdrop. The table of operations
//! (`ktstr-scenario/src/ops/table.rs`) names the function of each operation. If a function is missing here, the code does
//! not compile.
//!
//! Many operations on a cgroup call [`LiveScenario::get`] only to get an error if the scenario has no such cgroup, and drop
//! the cgroup that it returns otherwise.

mod affinity;
mod capture;
mod cgroups;
mod cpu;
mod cpuset;
mod freeze;
mod hotplug;
mod irq;
mod kernel;
mod kill;
mod memory;
mod move_tasks;
mod payload;
mod pids;
mod pin_map;
mod policy;
mod scheduler;
mod spawn;

use anyhow::{Context as _, Result};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Op, OpFunctions};

use super::live_scenario::{LiveScenario, Owner};

/// Makes [`OpFunctions`] from the rows of `op_table!`, of which only the constructor and the function are used here.
macro_rules! functions {
    ($(
        $(#[$doc:meta])+
        $number:literal $op:ident $name:ident => $file:ident::$function:ident $(, $clause:ident $of:ident)*
        $({ $($fields:tt)* })?;
    )*) => {
        OpFunctions { $( $op: $file::$function ),* }
    };
}

/// Executes one operation. Whatever it creates belongs to `owner`.
pub(super) fn apply(ctx: &Ctx, scenario: &mut LiveScenario, owner: Owner, op: &Op) -> Result<()> {
    let functions: OpFunctions<Call<'_, '_>, Result<()>> = ktstr_scenario::op_table!(functions);
    let mut call = Call {
        ctx,
        scenario,
        owner,
    };
    op.run(&functions, &mut call)
        .with_context(|| op.name().to_owned())
}

/// The state that an operation works on.
struct Call<'a, 'c> {
    ctx: &'a Ctx<'c>,
    scenario: &'a mut LiveScenario,
    /// The owner of whatever the operation creates.
    owner: Owner,
}
