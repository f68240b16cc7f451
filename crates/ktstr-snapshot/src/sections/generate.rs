//! The macro that makes everything about the sections of a capture from their table.

/// Returns the type of a section's value: `[T]` in the table stands for a list of `T`.
macro_rules! value {
    ([$of:ty]) => { Vec<$of> };
    ($of:ty) => { $of };
}

/// Implements [`SectionValue`](super::SectionValue) for the type of a row.
macro_rules! section_value {
    ($name:ident $unavailable:ident [$of:ty]) => {
        impl SectionValue for Vec<$of> {
            const KEYS: &'static [&'static str; 2] = &[stringify!($name), stringify!($unavailable)];

            fn placeholder() -> Option<Self> {
                Some(Vec::new())
            }

            fn is_blank(&self) -> bool {
                self.is_empty()
            }
        }
    };
    ($name:ident $unavailable:ident $of:ty) => {
        impl SectionValue for $of {
            const KEYS: &'static [&'static str; 2] = &[stringify!($name), stringify!($unavailable)];
        }
    };
}

/// Makes the getter of a section's value in [`Snapshot`](crate::snapshot::Snapshot).
macro_rules! getter {
    ($(#[$doc:meta])* $name:ident [$of:ty]) => {
        #[doc = concat!("Returns the section `", stringify!($name), "`, or an empty list if it is missing:")]
        $(#[$doc])*
        pub fn $name(&self) -> &'a [$of] {
            &self.report().$name
        }
    };
    ($(#[$doc:meta])* $name:ident $of:ty) => {
        #[doc = concat!("Returns the section `", stringify!($name), "`, or an error with the reason why it is missing:")]
        $(#[$doc])*
        pub fn $name(&self) -> SnapshotResult<&'a $of> {
            let section = &self.report().$name;
            section
                .value()
                .ok_or_else(|| host_field(stringify!($name), section.reason()))
        }
    };
}

/// Appends the text of a section, unless the row has `text: none`.
macro_rules! text {
    (none, $section:expr, $lines:expr) => {};
    ($($text:ident)::+, $section:expr, $lines:expr) => {
        $($text)::+($section, $lines)
    };
}

/// Makes the report, its getters, and the function that reads its sections in the order of the table, which has one row for
/// each section:
///
/// ```text
/// /// CPU time by kind, one entry per CPU.
/// per_cpu_time / per_cpu_time_unavailable: [PerCpuTimeStats] { text: none }
/// ```
///
/// The first name is that of the value in JSON, of the field of `FailureDumpReport`, and of the getter in `Snapshot`. The
/// second name is that of the reason in JSON, and of the getter for the reason. The type is `T`, or `[T]` for a list.
/// A list is written even if it is empty. `text` is a function that appends the text for people, or `none`. The members in JSON
/// have the order of the rows, and the sections are read in this order.
macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident / $unavailable:ident: $of:tt { text: $($text:ident)::+ })+) => {
        /// One capture of a guest: its BPF maps and the kernel state around them.
        ///
        /// A part that could not be read has the reason for that; the capture as a whole never fails.
        /// [`FailureDumpReport::placeholder`] represents a capture that could not be made at all.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct FailureDumpReport {
            /// Always [`SCHEMA_SINGLE`] for this type.
            pub schema: String,
            /// The BPF maps of the guest, in the order of their ids.
            pub maps: Vec<FailureDumpMap>,
            /// Why `maps` is empty: the list could not be read, or it was not requested.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub maps_unavailable: Option<String>,
            /// Object-name prefix of the maps of the attached scheduler (`bpf_bpf` for `bpf_bpf.bss`).
            #[serde(skip_serializing_if = "Option::is_none")]
            pub active_obj_name: Option<String>,
            /// The kernel addresses of the maps that belong to the attached scheduler.
            pub active_map_kvas: Vec<u64>,
            /// Why `active_obj_name` is absent: no scheduler is attached, or its maps could not be determined.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub active_unavailable: Option<String>,
            $(
                $(#[$doc])*
                #[serde(flatten)]
                pub $name: Section<value!($of)>,
            )+
            /// Whether the list of maps was cut at the cap.
            pub maps_truncated: bool,
            /// Whether this stands for a capture that could not be made; see `placeholder_reason`.
            pub is_placeholder: bool,
            /// Why there was no capture.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub placeholder_reason: Option<String>,
        }

        impl Default for FailureDumpReport {
            fn default() -> Self {
                Self {
                    schema: SCHEMA_SINGLE.to_owned(),
                    maps: Vec::new(),
                    maps_unavailable: None,
                    active_obj_name: None,
                    active_map_kvas: Vec::new(),
                    active_unavailable: None,
                    $($name: Section::default(),)+
                    maps_truncated: false,
                    is_placeholder: false,
                    placeholder_reason: None,
                }
            }
        }

        impl FailureDumpReport {
            /// Returns a placeholder for a capture that could not be made, with the reason.
            pub fn placeholder(reason: impl Into<String>) -> Self {
                let reason = reason.into();
                let because = || format!("placeholder: {reason}");
                Self {
                    maps_unavailable: Some(because()),
                    active_unavailable: Some(because()),
                    $($name: Section::Missing(because()),)+
                    is_placeholder: true,
                    placeholder_reason: Some(reason),
                    ..Self::default()
                }
            }

            /// Returns the name of each part that is missing or incomplete, and the reason. The parts are `maps`, `active`
            /// (which of the maps belong to the attached scheduler), and the sections.
            pub fn unavailable(&self) -> impl Iterator<Item = (&'static str, &str)> {
                let parts = [
                    ("maps", self.maps_unavailable.as_deref()),
                    ("active", self.active_unavailable.as_deref()),
                    $((stringify!($name), self.$name.reason()),)+
                ];
                parts.into_iter().filter_map(|(name, reason)| Some((name, reason?)))
            }

            /// Returns the human-readable text of the sections, except for those that have `text: none` in their row. The state
            /// of sched_ext comes first, since a reader needs it to judge the rest. The others have the order of the table.
            /// `queue_name` names the dispatch queues.
            pub fn sections_text(&self, queue_name: QueueName) -> String {
                let mut texts = vec![$({
                    let lines = &mut Lines { text: String::new(), queue_name };
                    text!($($text)::+, &self.$name, lines);
                    (stringify!($name), std::mem::take(&mut lines.text))
                }),+];
                texts.sort_by_key(|(name, _)| *name != "scx_sched_state");
                texts.into_iter().map(|(_, text)| text).collect()
            }
        }

        pub(crate) mod reading {
            use super::*;

            /// A reader of one section, of which `T` is the value ([`SectionValue`]).
            pub trait ReadSection<T> {
                /// Reads the section. `report` already has the sections of the rows above this one.
                fn read_section(&self, report: &FailureDumpReport) -> Section<T>;
            }

            /// Reads all sections into `report`, in the order of the table.
            pub fn read_sections<R>(reader: &R, report: &mut FailureDumpReport)
            where
                $(R: ReadSection<value!($of)>,)+
            {
                $(report.$name = ReadSection::<value!($of)>::read_section(reader, report);)+
            }
        }

        $(section_value!($name $unavailable $of);)+

        impl<'a> Snapshot<'a> {
            $(
                getter!($(#[$doc])* $name $of);

                #[doc = concat!("Returns why `", stringify!($name), "` is missing or incomplete; `None` if it is whole.")]
                pub fn $unavailable(&self) -> Option<&'a str> {
                    self.report().$name.reason()
                }
            )+
        }
    };
}

pub(super) use {getter, section_value, sections, text, value};
