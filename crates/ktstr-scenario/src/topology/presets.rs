//! Named shapes of typical machines, from 4 to 252 CPUs.
//!
//! A name contains the number of NUMA nodes if there are several, the number of CPUs, the number of LLCs, and whether cores
//! have two threads. A preset is a shape like any other: `KTSTR_TOPOLOGY` takes the name of a preset or the text of any even
//! shape; see [`Topology::from_name`].

use super::declared::Topology;
use super::text::TopologyParseError;

/// A shape and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// The name, such as `8cpu-2llc-smt`.
    pub name: &'static str,
    /// The shape that the name stands for.
    pub topology: Topology,
    /// Whether only tests that load a scheduler (`verifier/…`) use the preset. The tests that repeat a declared test on other
    /// shapes (`gauntlet/…`) leave it out.
    pub only_loads: bool,
}

macro_rules! presets {
    ($($name:literal: $nodes:literal $llcs:literal $cores:tt $threads:literal $(, $only_loads:ident)?;)+) => {
        /// All presets, sorted by the number of NUMA nodes, then by the number of CPUs.
        pub const PRESETS: &[Preset] = &[$(Preset {
            name: $name,
            topology: presets!(@shape $nodes $llcs $cores $threads),
            only_loads: presets!(@is $($only_loads)?),
        }),+];
    };
    // The LLCs have different numbers of cores. The first number in the list is the largest one, and becomes `cores_per_llc`.
    (@shape $nodes:literal $llcs:literal [$most:literal $(, $cores:literal)*] $threads:literal) => {
        Topology {
            llc_cores: Some(&[$most $(, $cores)*]),
            ..Topology::new($nodes, $llcs, $most, $threads)
        }
    };
    (@shape $nodes:literal $llcs:literal $cores:literal $threads:literal) => {
        Topology::new($nodes, $llcs, $cores, $threads)
    };
    (@is only_loads) => {
        true
    };
    (@is) => {
        false
    };
}

// NUMA nodes, LLCs in total, cores per LLC (a list if the LLCs differ), threads per core.
presets! {
    "4cpu-1llc-nosmt": 1 1 4 1;
    "4cpu-2llc-nosmt": 1 2 2 1;
    "8cpu-2llc-smt": 1 2 2 2;
    "9cpu-3llc-nosmt": 1 3 3 1;
    "12cpu-3llc-smt": 1 3 2 2;
    "14cpu-7llc-nosmt": 1 7 2 1;
    "15cpu-5llc-nosmt": 1 5 3 1;
    "32cpu-4llc-nosmt": 1 4 8 1;
    "32cpu-4llc-smt": 1 4 4 2;
    "64cpu-8llc-nosmt": 1 8 8 1;
    "64cpu-8llc-smt": 1 8 4 2;
    "128cpu-4llc-nosmt": 1 4 32 1;
    "128cpu-4llc-smt": 1 4 16 2;
    "128cpu-8llc-nosmt": 1 8 16 1;
    "128cpu-8llc-smt": 1 8 8 2;
    "192cpu-11llc-smt": 1 11 [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 6] 2, only_loads;
    "240cpu-15llc-nosmt": 1 15 16 1;
    "240cpu-15llc-smt": 1 15 8 2;
    "252cpu-14llc-nosmt": 1 14 18 1;
    "252cpu-14llc-smt": 1 14 9 2;
    "2numa-16cpu-4llc-nosmt": 2 4 4 1;
    "2numa-32cpu-2llc-smt": 2 2 8 2;
    "2numa-128cpu-8llc-nosmt": 2 8 16 1;
    "2numa-128cpu-8llc-smt": 2 8 8 2;
    "4numa-32cpu-8llc-nosmt": 4 8 4 1;
    "4numa-192cpu-12llc-smt": 4 12 8 2;
}

impl Topology {
    /// Returns the preset of this name, or the shape with this text, such as `1n2l4c1t`.
    ///
    /// # Errors
    /// [`TopologyParseError`] if the text is neither.
    pub fn from_name(text: &str) -> Result<Self, TopologyParseError> {
        match PRESETS.iter().find(|preset| preset.name == text) {
            Some(preset) => Ok(preset.topology),
            None if text.contains('-') => Err(TopologyParseError::UnknownPreset {
                text: text.to_owned(),
                known: PRESETS
                    .iter()
                    .map(|preset| preset.name)
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
            None => text.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number before `what` in a preset's name.
    fn named(name: &str, what: &str) -> Option<u32> {
        let part = name.split('-').find_map(|part| part.strip_suffix(what))?;
        part.parse().ok()
    }

    #[test]
    fn each_preset_has_the_shape_of_its_name() {
        for preset in PRESETS {
            let shape = preset.topology;
            shape.validate().expect(preset.name);
            assert_eq!(
                named(preset.name, "cpu"),
                Some(shape.total_cpus()),
                "{}",
                preset.name
            );
            assert_eq!(
                named(preset.name, "llc"),
                Some(shape.llcs),
                "{}",
                preset.name
            );
            let nodes = named(preset.name, "numa").unwrap_or(1);
            assert_eq!(nodes, shape.numa_nodes, "{}", preset.name);
            let smt = preset.name.ends_with("-smt");
            assert_eq!(smt, shape.threads_per_core > 1, "{}", preset.name);
            assert_eq!(Topology::from_name(preset.name), Ok(shape));
        }
        let mut names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PRESETS.len(), "two presets have the same name");
    }

    #[test]
    fn a_text_of_a_shape_is_accepted_as_a_name() {
        assert_eq!(
            Topology::from_name("1n2l4c1t"),
            Ok(Topology::new(1, 2, 4, 1))
        );
        let error = Topology::from_name("8cpu-3llc").expect_err("no such preset");
        let message = error.to_string();
        assert!(
            message.starts_with("topology \"8cpu-3llc\" is neither a shape nor a preset. A shape looks like 1n2l4c1t (1 NUMA node, 2 LLCs in total, 4 cores per LLC, 1 thread per core). The presets are: 4cpu-1llc-nosmt, "),
            "{message}"
        );
    }
}
