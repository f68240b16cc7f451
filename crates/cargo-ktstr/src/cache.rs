//! `cargo ktstr cache`: the templates, saved virtual machines from which runs start.

use std::io::Write;
use std::time::SystemTime;

use anyhow::Result;
use clap::Subcommand;
use ktstr::run::templates;

use crate::exit::Exit;
use crate::json::{self, Limit};
use crate::table;

/// The subcommands of `cargo ktstr cache`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the templates, the most recently used first.
    List {
        /// Print a JSON array instead of a table.
        #[arg(long)]
        json: bool,
        /// How much of a long list and of a long text the JSON contains.
        #[command(flatten)]
        limit: Limit,
    },
    /// Remove all templates; a later run that needs one makes it again.
    Clean,
    /// Print the path of the folder that holds the templates.
    Path,
}

/// Carries out a subcommand of `cargo ktstr cache`, and writes what it found or removed to `out`.
pub fn run(out: &mut dyn Write, command: &Command) -> Result<Exit> {
    match command {
        Command::List { json, limit } => list(out, *json, *limit)?,
        Command::Clean => match templates::clean()? {
            1 => writeln!(out, "removed 1 template")?,
            count => writeln!(out, "removed {count} templates")?,
        },
        Command::Path => writeln!(out, "{}", templates::root()?.display())?,
    }
    Ok(Exit::Done)
}

fn list(out: &mut dyn Write, json: bool, limit: Limit) -> Result<()> {
    let templates = templates::list()?;
    if json {
        let templates: Vec<_> = templates
            .iter()
            .map(|t| {
                serde_json::json!({
                    "key": t.key,
                    "what": t.what,
                    "bytes": t.size,
                    "unused_s": unused_s(t.used),
                })
            })
            .collect();
        json::print(out, &templates, limit)?;
        return Ok(());
    }
    if templates.is_empty() {
        writeln!(
            out,
            "No templates under {}. A run makes one.",
            templates::root()?.display()
        )?;
        return Ok(());
    }
    let mut table = table::numbers(&["KEY", "SIZE", "LAST USED", "WHAT"], 1);
    if let Some(what) = table.column_mut(3) {
        what.set_cell_alignment(comfy_table::CellAlignment::Left);
    }
    for t in &templates {
        table.add_row([
            t.key.clone(),
            format!("{} MiB", t.size >> 20),
            age(unused_s(t.used)),
            t.what.clone(),
        ]);
    }
    let total: u64 = templates.iter().map(|t| t.size >> 20).sum();
    writeln!(
        out,
        "{}\n\n{total} MiB on disk. A template is a saved machine: booted; attached, with a scheduler; or loaded, with the \
         program of a test. A damaged one is built again when it is needed.",
        table.trim_fmt()
    )?;
    Ok(())
}

/// Returns the whole seconds since `used`; 0 if `used` lies in the future.
fn unused_s(used: SystemTime) -> u64 {
    SystemTime::now()
        .duration_since(used)
        .map_or(0, |age| age.as_secs())
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let ages = [0, 119, 120, 7200, 172_800].map(age);
        assert_eq!(ages, ["0 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
