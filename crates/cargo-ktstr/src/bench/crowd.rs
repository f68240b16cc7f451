//! Many machines: the peak memory of several machines that run at once, for booted and for forked machines, and the host memory
//! that stays in use after a series of forks.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use ktstr_state::env;

use super::case::{Case, Ended, Start, ended};
use super::page::{Row, Section, Unit};
use crate::exit::Exit;
use crate::summary::Summary;

/// The default number of machines at once.
pub const CROWD: usize = 8;
/// The interval at which memory is sampled.
const LOOK: Duration = Duration::from_millis(20);

/// Returns the section for `at_once` machines at once and `forks` forks in a row, or the exit code of the first run that did
/// not pass.
pub fn section(at_once: usize, forks: u32) -> Result<Result<Section, Exit>> {
    let mut peaks = Vec::new();
    for start in [Start::Cold, Start::Warm] {
        let case = Case {
            test: "bench_eevdf",
            scheduler: "EEVDF",
            cpus: 2,
            start,
        };
        eprintln!("{at_once} at once: {case}");
        match peak(at_once, case)? {
            Ok(bytes) => peaks.push(Summary::of([bytes as f64])),
            Err(exit) => return Ok(Err(exit)),
        }
    }
    let share = match peaks[..] {
        [Some(cold), Some(warm)] if cold.median > 0.0 => {
            format!("; warm ÷ cold = {:.2}", warm.median / cold.median)
        }
        _ => String::new(),
    };
    let grown = match growth(forks)? {
        Ok(bytes) => bytes,
        Err(exit) => return Ok(Err(exit)),
    };
    Ok(Ok(Section {
        title: "Many machines of 2 CPUs and 512 MiB",
        columns: vec!["cold".to_owned(), "warm".to_owned()],
        rows: vec![
            Row {
                name: "peak",
                unit: Unit::Bytes,
                about: format!("resident memory of {at_once} QEMUs at once (sum of Pss){share}"),
                cells: peaks,
            },
            Row {
                name: "growth",
                unit: Unit::Bytes,
                about: format!(
                    "of the host's memory in use, over {forks} forks one after the other"
                ),
                cells: vec![None, Summary::of([grown as f64])],
            },
        ],
    }))
}

/// Makes `at_once` runs in parallel, and returns the peak of the sum of their QEMU processes' memory (Pss) in bytes. If a run did
/// not pass, returns its exit code instead.
fn peak(at_once: usize, case: Case) -> Result<Result<u64, Exit>> {
    let mut running = Vec::new();
    for _ in 0..at_once {
        let mut command = case.command()?;
        command
            .env(&env::MACHINES, at_once.to_string())
            .stdout(Stdio::piped());
        running.push(command.spawn().context("running this binary")?);
    }
    let mut most = 0;
    loop {
        let bytes = running.iter().map(|child| machines_of(child.id())).sum();
        most = most.max(bytes);
        let mut all = true;
        for child in &mut running {
            all &= child.try_wait()?.is_some();
        }
        if all {
            break;
        }
        std::thread::sleep(LOOK);
    }
    for child in running {
        if let Ended::Otherwise(exit) = ended(&child.wait_with_output()?)? {
            return Ok(Err(exit));
        }
    }
    Ok(Ok(most))
}

/// Returns the sum of the proportional set sizes (Pss) of a process's children in bytes (Documentation/filesystems/proc.rst).
fn machines_of(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let children: BTreeSet<String> = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let pss = |child: &String| {
        let text = std::fs::read_to_string(format!("/proc/{child}/smaps_rollup")).ok()?;
        kib(&text, "Pss:")
    };
    children.iter().filter_map(pss).sum::<u64>() << 10
}

/// Makes `forks` forks one after the other. Returns by how many bytes the host's memory in use, without the page cache, grew.
fn growth(forks: u32) -> Result<Result<i64, Exit>> {
    let case = Case {
        test: "bench_eevdf",
        scheduler: "EEVDF",
        cpus: 2,
        start: Start::Warm,
    };
    let before = in_use()?;
    for number in 1..=forks {
        eprintln!("fork {number} of {forks}");
        if let Ended::Otherwise(exit) = case.run()? {
            return Ok(Err(exit));
        }
    }
    Ok(Ok(in_use()? - before))
}

/// Returns the bytes of anonymous memory, shared memory, unreclaimable slab memory, kernel stacks and page tables in use
/// on the host.
fn in_use() -> Result<i64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let parts = [
        "AnonPages:",
        "Shmem:",
        "SUnreclaim:",
        "KernelStack:",
        "PageTables:",
    ];
    let kib: u64 = parts.iter().filter_map(|name| kib(&text, name)).sum();
    Ok((kib << 10) as i64)
}

/// Returns the number of KiB after `name` at the start of a line; `None` if there is no such line.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_proc() {
        let text = "Rss:  5 kB\nPss:             1234 kB\nPss_Anon: 7 kB\n";
        assert_eq!(kib(text, "Pss:"), Some(1234));
        assert_eq!(kib(text, "Swap:"), None);
        assert!(in_use().expect("a Linux host") > 0);
    }
}
