//! Moments at which a capture is taken because something happens, and not because it is due or the test asks.

use serde::{Deserialize, Serialize};

macro_rules! moments {
    ($($(#[$doc:meta])* $name:ident $tag:literal $told:literal)+) => {
        /// Why a capture was taken that is neither periodic nor asked for by the test.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum CaptureMoment { $($(#[$doc])* $name,)+ }

        impl CaptureMoment {
            /// All moments at which a capture is taken.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What the tags of its captures begin with.
            #[must_use]
            pub const fn tag(self) -> &'static str {
                match self { $(Self::$name => $tag,)+ }
            }

            /// What happens then, as a sentence without its full stop.
            #[must_use]
            pub const fn told(self) -> &'static str {
                match self { $(Self::$name => $told,)+ }
            }
        }
    };
}

moments! {
    /// sched_ext begins to end the scheduler: an error, the watchdog, or a scheduler that unregisters itself.
    ScxExit "scx_exit" "sched_ext begins to end the scheduler"
    /// sched_ext begins to bypass the scheduler: from then on the kernel dispatches by itself.
    ScxBypass "scx_bypass" "sched_ext begins to bypass the scheduler"
    /// The host gives the guest up: it hangs, or says nothing for longer than a test may.
    Hang "hang" "the host gives up a guest that says nothing any more"
    /// The guest's kernel panics.
    Panic "panic" "the guest's kernel panics"
    /// A time that whoever started the run has asked for (`KTSTR_CAPTURE_AT`).
    Asked "asked_for" "the time has come that was asked for"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_names_a_moment_by_its_variant() {
        let names: Vec<String> = CaptureMoment::ALL
            .iter()
            .map(|moment| serde_json::to_string(moment).unwrap())
            .collect();
        let wanted = ["scx_exit", "scx_bypass", "hang", "panic", "asked"];
        assert_eq!(names, wanted.map(|name| format!("{name:?}")));
    }
}
