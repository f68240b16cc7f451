//! `cargo ktstr kernel clean`: frees space in the cache of kernels. It lists the entries before it removes them.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use anyhow::{Result, bail};
use ktstr_kernel::cache::Cache;
use ktstr_record::brief::counted;
use ktstr_record::terminal::eprint_line;

/// Which kernels of the cache to remove.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Keep the first N of `kernel list`, which is in order of preference: real-time kernels last, newer releases first.
    /// Remove the others and all damaged entries.
    #[arg(
        long,
        value_name = "N",
        required_unless_present = "corrupt_only",
        conflicts_with = "corrupt_only"
    )]
    keep: Option<usize>,
    /// Remove only damaged entries, and no usable kernel.
    #[arg(long)]
    corrupt_only: bool,
    /// Remove without asking first.
    #[arg(long)]
    force: bool,
}

/// An entry to be removed.
struct Doomed {
    id: String,
    why: String,
    bytes: u64,
}

/// Removes entries from the cache according to `options`, after listing them and, without `--force`, asking for confirmation.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<()> {
    let cache = Cache::from_env()?;
    let (kernels, damaged) = cache.scan()?;
    let size = |id: &str| bytes(&cache.kernels().join(id));
    let kept = match options.keep {
        Some(keep) => keep.min(kernels.len()),
        None => kernels.len(),
    };
    let mut doomed: Vec<Doomed> = Vec::new();
    doomed.extend(kernels.iter().skip(kept).map(|kernel| Doomed {
        id: kernel.id.clone(),
        why: format!("not among the first {kept} of `kernel list`"),
        bytes: size(&kernel.id),
    }));
    doomed.extend(damaged.into_iter().map(|damaged| Doomed {
        bytes: size(&damaged.id),
        id: damaged.id,
        why: damaged.reason,
    }));
    if doomed.is_empty() {
        writeln!(
            out,
            "Nothing to remove from the cache, which has {}.",
            counted(kernels.len(), "kernel")
        )?;
        return Ok(());
    }
    for one in &doomed {
        writeln!(out, "{}: {}, {} MiB", one.id, one.why, one.bytes >> 20)?;
    }
    out.flush()?;
    if !options.force && !agreed(doomed.len())? {
        writeln!(out, "Nothing was removed.")?;
        return Ok(());
    }
    for one in &doomed {
        cache.remove(&one.id)?;
    }
    let freed: u64 = doomed.iter().map(|one| one.bytes).sum();
    writeln!(
        out,
        "Removed {} of {} entries, {} MiB.",
        doomed.len(),
        doomed.len() + kept,
        freed >> 20
    )?;
    Ok(())
}

/// Asks the user at the terminal for confirmation.
fn agreed(count: usize) -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!(
            "there is no terminal to confirm the removal of these {count}: --force removes them without confirmation"
        );
    }
    eprint_line(&format!("Remove these {count}? [y/N]"));
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Returns the size in bytes of the files in a folder; a cache entry has no subfolders.
fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}
