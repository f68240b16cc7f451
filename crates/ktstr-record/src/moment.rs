//! Events at which a capture is taken, in addition to the periodic captures and those that a test requests.

use serde::{Deserialize, Serialize};

macro_rules! moments {
    ($($(#[$doc:meta])* $name:ident $tag:literal $description:literal)+) => {
        /// The event at which a capture was taken. Periodic captures and those that a test requests have none.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum CaptureMoment { $($(#[$doc])* $name,)+ }

        impl CaptureMoment {
            /// All moments at which a capture is taken.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Returns the prefix of the tags of this moment's captures.
            #[must_use]
            pub const fn tag(self) -> &'static str {
                match self { $(Self::$name => $tag,)+ }
            }

            /// Returns a description of the event, as a sentence without a full stop.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$name => $description,)+ }
            }
        }
    };
}

moments! {
    /// sched_ext disables the scheduler, because of an error or a stall, or because the scheduler is unregistered. Under the
    /// virtual clock the guest is held where sched_ext starts to disable the scheduler; for an unregistration this requires
    /// Linux 6.19. Under the real clock the capture is taken as soon as the monitor notices that the scheduler is disabled.
    ScxExit "scx_exit" "sched_ext starts to disable the scheduler"
    /// sched_ext starts to bypass the scheduler: from then on the kernel dispatches tasks itself.
    ScxBypass "scx_bypass" "sched_ext starts to bypass the scheduler"
    /// The host gives up on the guest, because it hangs or has been silent for too long.
    Hang "hang" "the host gives up on a guest that is silent"
    /// The guest's kernel panics.
    Panic "panic" "the guest's kernel panics"
    /// A time that the user chose (`KTSTR_CAPTURE_AT`), or the time of a finding in the repeat of a failed run.
    Asked "chosen_time" "the chosen time is reached"
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
