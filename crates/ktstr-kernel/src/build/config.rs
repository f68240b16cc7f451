//! The configuration that is asked for, and whether the tree took it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::KernelError;

/// What ktstr needs and what it is good to have.
const OWN: &str = include_str!("ktstr.config");
/// Without one of these the guest does not start, or no scheduler does.
const ESSENTIAL: [&str; 10] = [
    "CONFIG_64BIT",
    "CONFIG_SMP",
    "CONFIG_SERIAL_8250_CONSOLE",
    "CONFIG_DEVMEM",
    "CONFIG_DEVTMPFS",
    "CONFIG_BLK_DEV_INITRD",
    "CONFIG_CGROUPS",
    "CONFIG_KALLSYMS_ALL",
    "CONFIG_DEBUG_INFO_BTF",
    "CONFIG_SCHED_CLASS_EXT",
];

/// The lines of a configuration, by option.
type Options = BTreeMap<String, String>;

/// What a build asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// All of it, one line an option.
    pub(super) text: String,
    options: Options,
    /// The options that the user's own files set.
    by_user: Vec<String>,
}

impl Wanted {
    /// ktstr's own options with those of the user's files over them.
    pub(super) fn read(fragments: &[PathBuf]) -> Result<Self, KernelError> {
        let mut options = parse(OWN);
        let mut by_user = Vec::new();
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
            by_user.extend(own.keys().cloned());
            options.extend(own);
        }
        let mut text = options.values().cloned().collect::<Vec<_>>().join("\n");
        text.push('\n');
        Ok(Self {
            text,
            options,
            by_user,
        })
    }

    /// Compares with the configuration that came out. An option that is needed, or that the user asked for, must be
    /// there; the others that are missing are returned.
    pub(super) fn check(&self, config: &Path, origin: &str) -> Result<Vec<String>, KernelError> {
        let text = fs::read_to_string(config).map_err(|e| KernelError::io("read", config, e))?;
        let got = parse(&text);
        let is_off = |line: &str| line.ends_with(" is not set");
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
        Ok(missed.into_iter().map(|(_, line)| line).collect())
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
