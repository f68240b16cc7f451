//! What a comparison of stored results costs: the wall time of `cargo ktstr compare`, from its start to its end, for two files
//! with 1,000 made-up runs each. The goal is half a second in a release build.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ktstr_record::brief::counted;

use super::page::{Row, Section, Unit};
use crate::cell;
use crate::check::made_up;
use crate::summary::Summary;

/// The number of runs in each file.
const RUNS: usize = 1000;
/// The numbers of scenarios over which the runs of a file are spread: few scenarios with many seeds, or many with few.
const SCENARIOS: [usize; 3] = [1, 4, 20];
/// The share by which the values in the second file, B, are larger than the values in the first file, A.
const SHIFT: f64 = 0.01;

/// Returns the section: for each number of scenarios, two files are made up and compared `times` times.
pub fn section(times: u32) -> Result<Section> {
    let folder = tempfile::tempdir().context("making a folder for made-up results")?;
    let names = cell::scenarios(false);
    let (mut columns, mut walls, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for scenarios in SCENARIOS {
        let names = names
            .get(..scenarios)
            .with_context(|| format!("this binary has fewer than {scenarios} scenarios"))?;
        let seeds = RUNS / scenarios;
        let (a, b) = (folder.path().join("a.json"), folder.path().join("b.json"));
        for (path, draw, shift) in [(&a, 1, 0.0), (&b, 2, SHIFT)] {
            let text = made_up::results(names, seeds as u64, draw, shift).text()?;
            std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        let length = |path: &Path| path.metadata().map_or(0, |file| file.len()) as f64;
        eprintln!(
            "comparing {} with {}",
            counted(scenarios, "scenario"),
            counted(seeds, "seed")
        );
        let wall = (0..times).map(|_| compare(&a, &b, folder.path()));
        let wall = wall.collect::<Result<Vec<f64>>>()?;
        columns.push(format!("{scenarios} x {}", counted(seeds, "seed")));
        walls.push(Summary::of(wall));
        bytes.push(Summary::of([length(&a), length(&b)]));
    }
    Ok(Section {
        title: match cfg!(debug_assertions) {
            true => {
                "What a comparison of 1,000 with 1,000 stored runs costs in this debug build (make bench measures a release build)"
            }
            false => "What a comparison of 1,000 with 1,000 stored runs costs",
        },
        columns,
        rows: vec![
            Row {
                name: "wall",
                unit: Unit::Seconds,
                about: "from the start of the command to its end".to_owned(),
                cells: walls,
            },
            Row {
                name: "file",
                unit: Unit::Bytes,
                about: "size of each of the two files".to_owned(),
                cells: bytes,
            },
        ],
    })
}

/// Returns the wall time of one comparison in a separate process, in seconds. It runs in a folder without a `ktstr.toml`.
fn compare(a: &Path, b: &Path, folder: &Path) -> Result<f64> {
    let program = std::env::current_exe().context("looking for this binary")?;
    let began = Instant::now();
    let status = Command::new(program)
        .arg("compare")
        .args([a, b])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .context("running `cargo ktstr compare`")?;
    let wall = began.elapsed().as_secs_f64();
    // The command exits with 1 if it finds B worse in some metric, and with 0 if it does not. Both are valid results here.
    ensure!(
        matches!(status.code(), Some(0 | 1)),
        "`cargo ktstr compare` of made-up results ended with {status}"
    );
    Ok(wall)
}
