//! `cargo ktstr kernel`: what `ktstr-kernel` keeps, on the command line.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use comfy_table::{Table, presets};
use ktstr_kernel::cache::{self, Cache, Damaged};
use ktstr_kernel::{KernelError, progress};

use ktstr_record::terminal::tell;

use crate::exit::Exit;

/// What to do with kernels.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the cached kernels.
    List {
        /// Print a JSON array instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a kernel into the cache, and print its id.
    Fetch {
        /// Which one, such as `debian:7.3`.
        #[arg(default_value = "debian:newest")]
        spec: String,
    },
    /// Print the path of the image that a test would boot.
    Path {
        /// A file, a folder, a .deb, or a spec such as `debian:7.3`; without it, what a test without a wish gets.
        spec: Option<String>,
    },
    /// Remove a kernel from the cache.
    Remove {
        /// Its id, as `list` shows it.
        id: String,
    },
}

/// Carries out `command`.
pub fn run(out: &mut dyn Write, command: &Command) -> Result<Exit> {
    match command {
        Command::List { json } => list(out, *json)?,
        Command::Fetch { spec } => {
            let kernel = ktstr_kernel::fetch(spec, &mut progress::on_stderr())?;
            writeln!(out, "{}", kernel.id)?;
        }
        Command::Path { spec } => {
            let kernel = ktstr_kernel::resolve(spec.as_deref(), &mut progress::on_stderr())?;
            writeln!(out, "{}", kernel.image.display())?;
        }
        Command::Remove { id } => {
            cache::remove(id)?;
            writeln!(out, "removed {id}")?;
        }
    }
    Ok(Exit::Done)
}

fn list(out: &mut dyn Write, json: bool) -> Result<()> {
    let (kernels, damaged) = Cache::from_env()?.scan()?;
    for Damaged { id, reason } in damaged {
        tell(&format!(
            "warning: {id} cannot be used: {reason}; `cargo ktstr kernel remove {id}` removes it"
        ));
    }
    if json {
        let kernels: Vec<_> = kernels
            .iter()
            .map(|kernel| serde_json::json!({ "id": kernel.id, "release": kernel.release, "image": kernel.image }))
            .collect();
        serde_json::to_writer_pretty(&mut *out, &kernels)?;
        writeln!(out)?;
    } else if kernels.is_empty() {
        writeln!(
            out,
            "No kernels are cached. `cargo ktstr kernel fetch` gets one."
        )?;
    } else {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_header(["ID", "RELEASE", "IMAGE"]);
        for kernel in &kernels {
            table.add_row([
                kernel.id.clone(),
                kernel.release.clone(),
                kernel.image.display().to_string(),
            ]);
        }
        writeln!(out, "{}", table.trim_fmt())?;
    }
    Ok(())
}

/// The ids of the cached kernels.
pub fn cached_ids() -> Result<Vec<String>, KernelError> {
    Ok(cache::list()?.into_iter().map(|kernel| kernel.id).collect())
}

/// The folder of the cache; `None` if nothing says where it should be.
pub fn cache_dir() -> Option<PathBuf> {
    Cache::from_env()
        .ok()
        .map(|cache| cache.root().to_path_buf())
}
