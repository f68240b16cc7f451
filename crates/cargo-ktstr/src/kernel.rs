//! `cargo ktstr kernel`: manages the cache of kernels that `ktstr-kernel` keeps.

mod clean;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use comfy_table::{Table, presets};
use ktstr_kernel::cache::{self, Cache, Damaged};
use ktstr_kernel::{KernelError, progress};

use ktstr_record::terminal::eprint_line;

use crate::exit::Exit;
use crate::json::{self, Limit};

/// The subcommands of `cargo ktstr kernel`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the cached kernels.
    List {
        /// List what Debian's archive offers: the newest kernel of each series and flavour.
        #[arg(long)]
        offered: bool,
        /// Print a JSON array instead of a table.
        #[arg(long)]
        json: bool,
        /// How much of a long list and of a long text the JSON contains.
        #[command(flatten)]
        limit: Limit,
    },
    /// Fetch a kernel into the cache, and print its id.
    Fetch {
        /// The kernel to fetch, such as `debian:7.3`, `debian:7.2+rt` or `debian:newest`.
        #[arg(default_value = "debian:newest")]
        spec: String,
    },
    /// Build a kernel from its source into the cache, and print its id.
    Build {
        /// A kernel source tree, a tarball of one, or a Debian package such as linux-source-6.12. A source tree is not modified.
        source: String,
        /// A file with lines of a kernel configuration, applied on top of ktstr's own; may be given more than once.
        #[arg(long = "config", value_name = "FILE")]
        configs: Vec<PathBuf>,
    },
    /// Print the path of the image that a test would boot.
    Path {
        /// A file, a folder, a .deb, or a spec such as `debian:7.3`; the default is the kernel that tests boot by default.
        spec: Option<String>,
    },
    /// Free space in the cache: keep the newest kernels, or remove only damaged entries.
    Clean(clean::Options),
    /// Remove a kernel from the cache.
    Remove {
        /// Its id, as `list` shows it.
        id: String,
    },
}

/// Carries out a subcommand of `cargo ktstr kernel`, and writes its result to `out`.
pub fn run(out: &mut dyn Write, command: &Command) -> Result<Exit> {
    match command {
        Command::List {
            offered: true,
            json,
            limit,
        } => offered(out, *json, *limit)?,
        Command::List { json, limit, .. } => list(out, *json, *limit)?,
        Command::Fetch { spec } => {
            let kernel = ktstr_kernel::fetch(spec, &mut progress::on_stderr())?;
            writeln!(out, "{}", kernel.id)?;
        }
        Command::Build { source, configs } => {
            let kernel = ktstr_kernel::build(source, configs, &mut progress::on_stderr())?;
            writeln!(out, "{}", kernel.id)?;
        }
        Command::Path { spec } => {
            let kernel = ktstr_kernel::resolve(spec.as_deref(), &mut progress::on_stderr())?;
            writeln!(out, "{}", kernel.image.display())?;
        }
        Command::Clean(options) => clean::run(out, options)?,
        Command::Remove { id } => {
            cache::remove(id)?;
            writeln!(out, "removed {id}")?;
        }
    }
    Ok(Exit::Done)
}

fn list(out: &mut dyn Write, json: bool, limit: Limit) -> Result<()> {
    let (kernels, damaged) = Cache::from_env()?.scan()?;
    for Damaged { id, reason } in damaged {
        eprint_line(&format!(
            "warning: {id} cannot be used: {reason}; `cargo ktstr kernel remove {id}` removes it"
        ));
    }
    if json {
        let kernels: Vec<_> = kernels
            .iter()
            .map(|kernel| {
                serde_json::json!({
                    "id": kernel.id,
                    "release": kernel.release,
                    "image": kernel.image,
                    "sched_ext": kernel.has_sched_ext,
                })
            })
            .collect();
        json::print(out, &kernels, limit)?;
    } else if kernels.is_empty() {
        writeln!(
            out,
            "No kernels are cached. `cargo ktstr kernel fetch` gets one."
        )?;
    } else {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_header(["ID", "RELEASE", "SCHED_EXT", "IMAGE"]);
        for kernel in &kernels {
            table.add_row([
                kernel.id.clone(),
                kernel.release.clone(),
                if kernel.has_sched_ext { "yes" } else { "no" }.to_owned(),
                kernel.image.display().to_string(),
            ]);
        }
        writeln!(out, "{}", table.trim_fmt())?;
    }
    Ok(())
}

fn offered(out: &mut dyn Write, json: bool, limit: Limit) -> Result<()> {
    let offers = ktstr_kernel::offered(&mut progress::on_stderr())?;
    if let Some(why) = &offers.incomplete {
        eprint_line(&format!("note: the list may be incomplete: {why}"));
    }
    let kernels = offers.kernels;
    if json {
        let kernels: Vec<_> = kernels
            .iter()
            .map(|kernel| {
                serde_json::json!({
                    "series": kernel.series(),
                    "flavour": kernel.flavour(),
                    "release": kernel.release,
                    "spec": spec_of(kernel),
                })
            })
            .collect();
        json::print(out, &kernels, limit)?;
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["SPEC", "SERIES", "FLAVOUR", "RELEASE"]);
    for kernel in &kernels {
        table.add_row([
            spec_of(kernel),
            kernel.series().to_owned(),
            kernel.flavour().to_owned(),
            kernel.release.clone(),
        ]);
    }
    writeln!(out, "{}", table.trim_fmt())?;
    Ok(())
}

/// Returns the word that selects this kernel, as an argument of `kernel fetch` or as the value of `KTSTR_KERNEL`.
fn spec_of(kernel: &ktstr_kernel::Candidate) -> String {
    format!("debian:{}+{}", kernel.series(), kernel.flavour())
}

/// Returns the ids of the cached kernels that can be used.
pub fn cached_ids() -> Result<Vec<String>, KernelError> {
    Ok(cache::list()?.into_iter().map(|kernel| kernel.id).collect())
}

/// Returns the folder of the kernel cache; `None` if no environment variable determines it.
pub fn cache_dir() -> Option<PathBuf> {
    Cache::from_env()
        .ok()
        .map(|cache| cache.root().to_path_buf())
}
