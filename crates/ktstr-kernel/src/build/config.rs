//! The requested configuration, and the check that the source tree accepted it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::KernelError;

/// The options that ktstr needs, and those that are useful.
const OWN: &str = include_str!("ktstr.config");
/// Options without which the guest does not boot, or cannot run a sched_ext scheduler.
const ESSENTIAL: [&str; 11] = [
    "CONFIG_64BIT",
    "CONFIG_SMP",
    "CONFIG_SERIAL_8250_CONSOLE",
    "CONFIG_DEVMEM",
    "CONFIG_DEVTMPFS",
    "CONFIG_BLK_DEV_INITRD",
    "CONFIG_SYSCTL",
    "CONFIG_CGROUPS",
    "CONFIG_KALLSYMS_ALL",
    "CONFIG_DEBUG_INFO_BTF",
    "CONFIG_SCHED_CLASS_EXT",
];

/// Options that only some versions have, each with a line. If the resulting configuration has this line, the option is not
/// reported as missing.
const STANDS_FOR: [(&str, &str); 6] = [
    ("CONFIG_PREEMPT", "CONFIG_PREEMPT_LAZY=y"),
    ("CONFIG_PREEMPT_LAZY", "CONFIG_PREEMPT=y"),
    // From 6.15 on, SCHED_DEBUG is not an option any more. PREEMPT_LAZY stands for these versions. It exists from 6.13 on, so a
    // missing SCHED_DEBUG is not reported for 6.13 and 6.14 either.
    ("CONFIG_SCHED_DEBUG", "CONFIG_PREEMPT_LAZY=y"),
    ("CONFIG_PROC_SYSCTL", "CONFIG_SYSCTL=y"),
    ("CONFIG_NUMA_MIGRATION", "CONFIG_NUMA_BALANCING=y"),
    ("CONFIG_X86_5LEVEL", "CONFIG_PGTABLE_LEVELS=5"),
];

/// The lines of a configuration, by option.
type Options = BTreeMap<String, String>;

/// The configuration that a build requests.
#[derive(Debug)]
pub(super) struct Wanted {
    /// All lines, one for each option. The user's lines come last, because the last of several lines that set a
    /// choice takes effect.
    pub(super) text: String,
    options: Options,
    /// The options that the user's own files set.
    by_user: Vec<String>,
}

impl Wanted {
    /// Reads ktstr's own options and overrides them with those of the user's files.
    pub(super) fn read(fragments: &[PathBuf]) -> Result<Self, KernelError> {
        let mut options = parse(OWN);
        let mut of_user = Options::new();
        for path in fragments {
            let text = fs::read_to_string(path).map_err(|e| KernelError::io("read", path, e))?;
            let own = parse(&text);
            if own.is_empty() {
                return Err(KernelError::BadSource {
                    source_text: path.display().to_string(),
                    found: "a configuration file without a line `CONFIG_NAME=value` or \
                            `# CONFIG_NAME is not set`"
                        .to_owned(),
                });
            }
            of_user.extend(own);
        }
        options.retain(|name, _| !of_user.contains_key(name));
        let text = options
            .values()
            .chain(of_user.values())
            .map(|line| format!("{line}\n"))
            .collect();
        let by_user = of_user.keys().cloned().collect();
        options.extend(of_user);
        Ok(Self {
            text,
            options,
            by_user,
        })
    }

    /// Compares the request with the resulting configuration. It is an error if an essential option or one of the user's
    /// does not have the requested value. Returns the lines of the other options without the requested value, except those
    /// that [`STANDS_FOR`] explains.
    pub(super) fn check(&self, config: &Path, origin: &str) -> Result<Vec<String>, KernelError> {
        let text = fs::read_to_string(config).map_err(|e| KernelError::io("read", config, e))?;
        let got = parse(&text);
        let is_off = |line: &str| line.ends_with(" is not set");
        let is_not_missed = |name: &str| {
            STANDS_FOR
                .iter()
                .any(|(option, line)| *option == name && got.values().any(|found| found == line))
        };
        let (refused, missed): (Vec<_>, Vec<_>) = self
            .options
            .iter()
            .filter(|(name, line)| match got.get(*name) {
                Some(found) => found != *line,
                None => !is_off(line),
            })
            .map(|(name, line)| (name, line.clone()))
            .partition(|(name, line)| {
                self.by_user.contains(name) || (ESSENTIAL.contains(&name.as_str()) && !is_off(line))
            });
        if !refused.is_empty() {
            let lines: Vec<_> = refused.into_iter().map(|(_, line)| line).collect();
            return Err(KernelError::ConfigRefused {
                origin: origin.to_owned(),
                lines: lines.join(", "),
            });
        }
        Ok(missed
            .into_iter()
            .filter(|(name, _)| !is_not_missed(name))
            .map(|(_, line)| line)
            .collect())
    }
}

fn parse(text: &str) -> Options {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let name = match line.strip_prefix("# ") {
                Some(rest) => rest.strip_suffix(" is not set")?,
                None => line.split_once('=')?.0,
            };
            let line = match line.strip_suffix("=n") {
                Some(name) => format!("# {name} is not set"),
                None => line.to_owned(),
            };
            name.starts_with("CONFIG_").then(|| (name.to_owned(), line))
        })
        .collect()
}
