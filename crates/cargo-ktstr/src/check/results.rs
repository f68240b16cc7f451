//! The results of a check as a file: the settings of the check and the outcome of every run. A shard writes one, `cargo ktstr
//! merge` merges several, and `cargo ktstr compare` takes two of them instead of schedulers.
//!
//! A file of another schema is refused, and so is a truncated file, since it is not valid JSON.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ktstr_record::settings::Settings;
use serde::{Deserialize, Serialize};

use super::again::Again;
use super::config::Config;
use super::date::Date;
use super::matrix::{Level, Matrix};
use super::report::{Checked, Report};
use super::shard::Shard;
use super::walk::Walked;
use crate::cell::Outcome;

/// The value of the field `format` in every file of results.
const FORMAT: &str = "ktstr-check-results";
/// The version of the schema. It is raised when a field changes its meaning or goes away, or a new field is required.
pub const SCHEMA: u32 = 2;

/// The fields that identify a file of results; the rest is only read if they match.
#[derive(Deserialize)]
struct Head {
    format: Option<String>,
    schema: Option<u64>,
}

/// The settings of a check. All shards of one check have the same settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The version of the command that ran the check, since scenarios and judgement depend on it.
    pub version: String,
    /// The scheduler that was checked.
    pub scheduler: Checked,
    /// How much was run.
    pub level: Level,
    /// The matrix of the whole check, even if this file holds only a shard of it.
    pub matrix: Matrix,
    /// The configuration by which the runs are judged.
    pub config: Config,
    /// The options of the check that are repeated in the commands that it prints for its findings.
    pub again: Again,
    /// What else changes the numbers of the runs: the version of QEMU, and environment variables.
    pub settings: Settings,
}

impl Asked {
    /// Returns all settings of the machines that change the numbers of the runs, by name.
    pub fn machine(&self) -> Settings {
        let mut settings = self.settings.clone();
        let memory = self.again.memory_mib;
        settings.extend(memory.map(|mib| ("--memory-mib".to_owned(), mib.to_string())));
        settings
    }
}

/// A file of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Always [`FORMAT`], by which a file of results is recognised.
    format: String,
    /// [`SCHEMA`] of the command that wrote it.
    schema: u32,
    /// The settings of the check.
    pub asked: Asked,
    /// The shard that this file holds; `None` for the whole check.
    pub shard: Option<Shard>,
    /// The day of the check, by which known failures expire.
    pub day: Date,
    /// The outcomes of the runs.
    pub walked: Walked,
    /// Wall time in seconds; for merged shards, the time of the slowest.
    pub wall_s: f64,
}

impl Results {
    /// Creates the results of a check from its settings and the outcomes of its runs.
    pub fn new(asked: Asked, shard: Option<Shard>, day: Date, walked: Walked, wall_s: f64) -> Self {
        Self {
            format: FORMAT.to_owned(),
            schema: SCHEMA,
            asked,
            shard,
            day,
            walked,
            wall_s,
        }
    }

    /// Returns the text of the file.
    pub fn text(&self) -> Result<String> {
        Ok(serde_json::to_string(self).context("the results as JSON")? + "\n")
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not a file of results, has another schema, or is truncated.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads the text of a file; fails as [`Results::read`] does.
    pub fn parse(text: &str) -> Result<Self> {
        let ends_early = |error: &serde_json::Error| match error.is_eof() {
            true => format!(
                "the file ends in the middle of the results, after {} bytes: copy it once more, or run that check again",
                text.len()
            ),
            false => "it is not a file of results, which `cargo ktstr check --results FILE` writes"
                .to_owned(),
        };
        let head: Head = serde_json::from_str(text).map_err(|error| {
            let why = ends_early(&error);
            anyhow::Error::new(error).context(why)
        })?;
        if head.format.as_deref() != Some(FORMAT) {
            bail!("it is not a file of results, which `cargo ktstr check --results FILE` writes");
        }
        let schema = head.schema.unwrap_or_default();
        ensure!(
            schema == u64::from(SCHEMA),
            "its schema is {schema}, and this command reads only {SCHEMA}: {}",
            match schema < u64::from(SCHEMA) {
                true => "an older command wrote it, so run that check again with this one",
                false => "a newer command wrote it, so read it with that one",
            }
        );
        serde_json::from_str(text).context("a field of the results is damaged")
    }

    /// Returns the report, from which the screen and the other files are made.
    pub fn report(&self) -> Report {
        let Asked {
            scheduler,
            level,
            matrix,
            config,
            again,
            ..
        } = &self.asked;
        let mut report = Report::of(matrix, &self.walked, config, again, self.day);
        report.scheduler = scheduler.clone();
        report.level = level.name();
        report.shard = self.shard.map(|shard| shard.to_string());
        report.results = self.digest();
        report.wall_s = self.wall_s;
        report
    }

    /// Returns the BLAKE3 hash of everything that the virtual clock decides: two checks with the same digest had the same runs.
    /// Wall times and paths of records are not in it.
    fn digest(&self) -> String {
        let bare = |outcome: &Outcome| Outcome {
            wall_s: 0.0,
            record: None,
            ..outcome.clone()
        };
        let mut hasher = blake3::Hasher::new();
        for pair in &self.walked.pairs {
            let eevdf = pair.eevdf.as_ref().map(bare);
            let run = (&pair.place, pair.seed, bare(&pair.ours), eevdf);
            // A value that cannot be serialized cannot be in the file either, which is written by the same code.
            let text = serde_json::to_string(&run).unwrap_or_default();
            hasher.update(text.as_bytes()).update(b"\n");
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Returns whether a file holds results rather than a scheduler's binary, judged by its first bytes. A file that cannot be read
/// holds none.
pub fn is_results(path: &Path) -> bool {
    use std::io::Read;
    let mut first = [0_u8; 64];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut first));
    let first = &first[..read.unwrap_or_default()];
    // Results are a JSON object. Schedulers are ELF files, which start with the byte 0x7f.
    first.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

#[cfg(test)]
mod tests {
    use super::super::testing::results;
    use super::*;

    fn error(text: &str) -> String {
        format!("{:#}", Results::parse(text).expect_err("no results"))
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let written = results();
        let read = Results::parse(&written.text().expect("text")).expect("results");
        assert_eq!(read, written);
        assert_eq!(read.report(), written.report());
    }

    #[test]
    fn files_that_are_cut_damaged_or_of_another_schema_are_refused() {
        let text = results().text().expect("text");
        for at in [text.len() - 2, text.len() / 2, 40, 1] {
            let error = error(&text[..at]);
            assert!(error.contains("ends in the middle"), "{at}: {error}");
        }
        let of = |schema: &str| text.replacen("\"schema\":2", schema, 1);
        let older = error(&of("\"schema\":1"));
        assert!(older.contains("an older command wrote it"), "{older}");
        let newer = error(&of("\"schema\":3"));
        assert!(newer.contains("a newer command wrote it"), "{newer}");
        for other in ["{}", "[]", "7", "{\"format\":\"x\",\"schema\":2}", "a b"] {
            let error = error(other);
            assert!(
                error.contains("it is not a file of results"),
                "{other}: {error}"
            );
        }
        let damaged = error(&text.replacen("\"wall_s\"", "\"wall_x\"", 1));
        assert!(
            damaged.contains("a field of the results is damaged"),
            "{damaged}"
        );
    }

    #[test]
    fn the_digest_covers_only_what_the_clock_decides() {
        let one = results();
        let mut other = one.clone();
        other.wall_s = 1e6;
        other.walked.pairs[0].ours.wall_s = 7.5;
        other.walked.pairs[0].ours.record = Some("/elsewhere/record.json".into());
        assert_eq!(one.digest(), other.digest());
        other.walked.pairs[0]
            .ours
            .metrics
            .insert("slice".to_owned(), 1.0);
        assert_ne!(one.digest(), other.digest());
    }
}
