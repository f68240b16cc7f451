//! Determines a kernel's features from its configuration and its symbols.

use crate::kallsyms::Symbol;

/// Symbols that kernel/sched/ext.c defines, in one release or another.
const SCHED_EXT: [&str; 3] = ["scx_root", "bpf_sched_ext_ops", "__scx_enabled"];

/// Returns whether a kernel has sched_ext, judged by its configuration or its symbols, and a text with the evidence.
pub(crate) fn sched_ext(config: Option<&[u8]>, symbols: &[Symbol]) -> (bool, String) {
    let config = config.map(|c| is_set(c, "CONFIG_SCHED_CLASS_EXT"));
    let symbol = SCHED_EXT
        .iter()
        .find(|name| symbols.iter().any(|s| s.name == **name));
    let of_config = match config {
        Some(true) => "its config sets it to y",
        Some(false) => "its config does not set it",
        None => "there is no config",
    };
    let of_symbols = match symbol {
        Some(name) => format!("its symbols have {name}"),
        None => format!("its symbols have none of {}", SCHED_EXT.join(", ")),
    };
    (
        config == Some(true) || symbol.is_some(),
        format!("{of_config}; {of_symbols}"),
    )
}

/// Returns whether a kernel configuration contains the line `NAME=y`.
pub(crate) fn is_set(config: &[u8], name: &str) -> bool {
    has(config, name, b"=y")
}

/// Returns whether a kernel configuration contains the line `NAME=m`.
pub(crate) fn is_module(config: &[u8], name: &str) -> bool {
    has(config, name, b"=m")
}

fn has(config: &[u8], name: &str, value: &[u8]) -> bool {
    config
        .split(|b| *b == b'\n')
        .any(|line| line.strip_prefix(name.as_bytes()) == Some(value))
}
