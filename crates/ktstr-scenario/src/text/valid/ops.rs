//! The check of one operation, made from the table of operations (`ops/table.rs`): first the rule of each field,
//! then the effect.

use super::stage::{Life, Stage};
use super::{Checked, effects, rules};
use crate::ops::Op;

/// Calls the function for the effect of an operation, if its row has one.
macro_rules! effect {
    ($($argument:ident),*) => { Ok(()) };
    ($effect:ident of $($argument:ident),*) => { effects::$effect($($argument),*) };
}

/// Generates the check from the rows of `op_table!`; see there for an example.
macro_rules! checks {
    ($(
        $(#[$doc:meta])+
        $number:literal $constructor:ident $name:ident => $file:ident::$function:ident
            $(, needs $controller:ident)? $(, effect $effect:ident)? $(, is $once:ident)?
        $({
            $( $(#[$field_doc:meta])+ $field:ident: $kind:tt $(=> $rule:ident)? ),* $(,)?
        })?;
    )*) => {
        impl Stage<'_> {
            /// Checks that an operation is possible at this point of the scenario, and changes the cgroups of the stage as
            /// the operation would. `life` is the lifetime of the cgroups and programs that the operation creates or starts.
            #[allow(unused_variables)]
            pub(super) fn op(&mut self, life: Life, op: &Op) -> Checked {
                self.life = life;
                let stage = self;
                match op { $(
                    Op::$name $({ $( $field ),* })? => {
                        $($( $( rules::$rule(stage, $field)?; )? )*)?
                        effect!($($effect of)? stage $($(, $field)*)?)
                    }
                )* }
            }
        }
    };
}

crate::op_table!(checks);
