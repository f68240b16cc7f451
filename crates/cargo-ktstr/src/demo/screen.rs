//! The screen that shows the result of a run. This module only renders it.

use std::fmt::Write;

use ktstr_record::brief::counted;

use crate::table;

/// The content of the screen.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// `pass`, `fail`, `inconclusive` or `skip`.
    pub verdict: String,
    /// The reason for the verdict, in one line; `None` for a pass.
    pub reason: Option<String>,
    /// Name of the test.
    pub test: String,
    /// Release of the kernel.
    pub kernel: String,
    /// The accelerator that executed the guest: `kvm` or `tcg`.
    pub accelerator: String,
    /// The guest's clock in words, such as `real clock`; for the virtual clock also its speed and the seed.
    pub clock: String,
    /// What the machine was started from: `cold`, `booted` or `attached`.
    pub start: String,
    /// Name of the scheduler.
    pub scheduler: String,
    /// The shape of the machine, such as `1n1l2c1t`.
    pub topology: String,
    /// The number of virtual CPUs of the machine.
    pub vcpus: u32,
    /// The memory of the guest in MiB; 0 if the run left no record.
    pub memory_mib: u32,
    /// One row per cgroup and step.
    pub cgroups: Vec<CgroupRow>,
    /// One row per captured variable.
    pub counters: Vec<CounterRow>,
    /// The number of periodic captures with data.
    pub captures: u32,
    /// The number of periodic captures that the test requested.
    pub requested: u32,
    /// The median time in milliseconds for which a capture froze the guest; `None` without captures.
    pub freeze_ms: Option<f64>,
    /// The wall time of the whole run, in seconds.
    pub wall_s: f64,
    /// The part of the wall time that was the boot, in seconds.
    pub boot_s: f64,
    /// The part of the wall time that was the workload's window, in seconds.
    pub window_s: f64,
    /// Path of the run's record.
    pub record: Option<String>,
}

/// What the workers of one cgroup did in one step.
#[derive(Clone, Debug, Default)]
pub struct CgroupRow {
    /// Name of the step.
    pub step: String,
    /// Name of the cgroup.
    pub cgroup: String,
    /// The number of workers that the cgroup had in this step.
    pub workers: u64,
    /// CPU time of all workers, in milliseconds.
    pub cpu_ms: f64,
    /// Iterations of all workers.
    pub iterations: u64,
    /// The difference between the largest and the smallest share of its time that a worker spent off the CPU, in percentage
    /// points; `None` for a single worker.
    pub spread_pct: Option<f64>,
    /// The longest time between two iterations of one worker, in milliseconds.
    pub gap_ms: u64,
    /// Migrations of all workers.
    pub migrations: u64,
}

/// One variable of the scheduler, as the captures saw it.
#[derive(Clone, Debug, Default)]
pub struct CounterRow {
    /// Name of the variable.
    pub name: String,
    /// The phase and the value of each capture, in order; `None` where it could not be read.
    pub values: Vec<(String, Option<u64>)>,
}

/// Renders the screen: at most 40 lines, the same for a terminal and a file.
pub fn render(screen: &Screen) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = render_to(&mut text, screen);
    text
}

fn render_to(text: &mut String, s: &Screen) -> std::fmt::Result {
    write!(text, "{}  {}", s.verdict.to_uppercase(), s.test)?;
    match &s.reason {
        Some(reason) => writeln!(text, ": {reason}")?,
        None => writeln!(text)?,
    }
    writeln!(
        text,
        "\n  kernel     {}, {} ({}), {}",
        s.kernel,
        s.accelerator,
        s.clock,
        started(&s.start)
    )?;
    writeln!(
        text,
        "  machine    {}: {}, {} MiB",
        s.topology,
        counted(s.vcpus, "CPU"),
        s.memory_mib
    )?;
    writeln!(text, "  scheduler  {}", s.scheduler)?;

    if !s.cgroups.is_empty() {
        let mut table = table::numbers(
            &[
                "STEP",
                "CGROUP",
                "WORKERS",
                "CPU",
                "ITERATIONS",
                "OFF-CPU SPREAD",
                "LONGEST GAP",
                "MIGRATIONS",
            ],
            2,
        );
        for row in s.cgroups.iter().take(8) {
            table.add_row([
                row.step.clone(),
                row.cgroup.clone(),
                row.workers.to_string(),
                format!("{:.0} ms", row.cpu_ms.trunc()),
                grouped(row.iterations),
                row.spread_pct
                    .map_or_else(|| "-".to_owned(), |spread| format!("{spread:.1} %")),
                format!("{} ms", row.gap_ms),
                grouped(row.migrations),
            ]);
        }
        indented(text, &table)?;
        writeln!(
            text,
            "  OFF-CPU SPREAD: the largest minus the smallest share of time off the CPU among the workers. LONGEST GAP: between two \
             iterations."
        )?;
    }
    if !s.counters.is_empty() {
        writeln!(
            text,
            "\n  {} of {} captures of the scheduler's memory, one per column{}",
            s.captures,
            s.requested,
            froze(s.freeze_ms)
        )?;
        let mut header = vec!["VARIABLE", ""];
        let phases: Vec<&str> = s.counters[0]
            .values
            .iter()
            .map(|(phase, _)| phase.as_str())
            .collect();
        header.extend(&phases);
        let mut table = table::numbers(&header, 2);
        for row in s.counters.iter().take(8) {
            let values: Vec<Option<u64>> = row.values.iter().map(|&(_, value)| value).collect();
            let mut cells = vec![row.name.clone(), sparkline(&values)];
            cells.extend(
                values
                    .iter()
                    .map(|value| value.map_or_else(|| "-".to_owned(), grouped)),
            );
            table.add_row(cells);
        }
        indented(text, &table)?;
    }
    let rest = (s.wall_s - s.boot_s - s.window_s).max(0.0);
    writeln!(
        text,
        "\n  {:.1} s of host time: boot {:.1}, scenario {:.1}, rest {rest:.1}  {}",
        s.wall_s,
        s.boot_s,
        s.window_s,
        bar(&[(s.boot_s, '░'), (s.window_s, '█'), (rest, '▒')], 40)
    )?;
    if let Some(record) = &s.record {
        writeln!(text, "  record: {record}")?;
    }
    Ok(())
}

fn started(level: &str) -> &str {
    match level {
        "cold" => "booted for this run",
        "booted" => "forked from a booted template",
        "attached" => "forked from a template with the scheduler attached",
        other => other,
    }
}

fn froze(freeze_ms: Option<f64>) -> String {
    freeze_ms.map_or_else(String::new, |ms| {
        format!("; each froze the guest, for {ms:.1} ms of host time in the median")
    })
}

fn indented(text: &mut String, table: &comfy_table::Table) -> std::fmt::Result {
    writeln!(text)?;
    table
        .trim_fmt()
        .lines()
        .try_for_each(|line| writeln!(text, " {line}"))
}

/// Returns one block character per value, with a height in proportion to the largest; a blank for a missing value.
fn sparkline(values: &[Option<u64>]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let max = u128::from(values.iter().flatten().copied().max().unwrap_or(0).max(1));
    let block = |value: u64| {
        BLOCKS[usize::try_from(u128::from(value) * 7 / max)
            .unwrap_or(0)
            .min(7)]
    };
    values
        .iter()
        .map(|value| value.map_or(' ', block))
        .collect()
}

/// Formats `1234567` as `1 234 567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Renders the parts as a bar of about `width` blocks.
fn bar(parts: &[(f64, char)], width: usize) -> String {
    let whole: f64 = parts.iter().map(|&(part, _)| part.max(0.0)).sum();
    if !(whole > 0.0 && whole.is_finite()) {
        return String::new();
    }
    let blocks = |part: f64| ((part.max(0.0) / whole * width as f64).round() as usize).min(width);
    parts
        .iter()
        .flat_map(|&(part, block)| std::iter::repeat_n(block, blocks(part)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> Screen {
        let row = |step: &str, cgroup: &str, workers, iterations| CgroupRow {
            step: step.to_owned(),
            cgroup: cgroup.to_owned(),
            workers,
            cpu_ms: 1480.4,
            iterations,
            spread_pct: Some(3.21),
            gap_ms: 24,
            migrations: 12,
        };
        let phases = ["step 1", "step 1", "step 2", "step 2"];
        let counter = |name: &str, values: [u64; 4]| CounterRow {
            name: name.to_owned(),
            values: phases
                .iter()
                .map(|phase| (*phase).to_owned())
                .zip(values.map(Some))
                .collect(),
        };
        Screen {
            verdict: "pass".to_owned(),
            test: "two_steps".to_owned(),
            kernel: "7.3.4+deb13-cloud-amd64".to_owned(),
            accelerator: "tcg".to_owned(),
            clock: "real clock".to_owned(),
            start: "attached".to_owned(),
            scheduler: "scx-ktstr".to_owned(),
            topology: "1n1l2c1t".to_owned(),
            vcpus: 2,
            memory_mib: 512,
            cgroups: vec![
                row("step 1", "cg_0", 2, 1_234_567),
                row("step 2", "cg_1", 4, 1_100_000),
            ],
            counters: vec![
                counter("nr_dispatched", [1200, 2400, 4100, 9900]),
                counter("nr_yielded", [0; 4]),
            ],
            captures: 4,
            requested: 4,
            freeze_ms: Some(3.2),
            wall_s: 14.0,
            boot_s: 5.0,
            window_s: 6.0,
            record: Some("target/ktstr/x/record.json".to_owned()),
            ..Screen::default()
        }
    }

    #[test]
    fn the_screen() {
        let text = render(&screen());
        assert!(text.lines().count() <= 24, "{} lines", text.lines().count());
        insta::assert_snapshot!(text, @r"
        PASS  two_steps

          kernel     7.3.4+deb13-cloud-amd64, tcg (real clock), forked from a template with the scheduler attached
          machine    1n1l2c1t: 2 CPUs, 512 MiB
          scheduler  scx-ktstr

          STEP    CGROUP  WORKERS      CPU  ITERATIONS  OFF-CPU SPREAD  LONGEST GAP  MIGRATIONS
          step 1  cg_0          2  1480 ms   1 234 567           3.2 %        24 ms          12
          step 2  cg_1          4  1480 ms   1 100 000           3.2 %        24 ms          12
          OFF-CPU SPREAD: the largest minus the smallest share of time off the CPU among the workers. LONGEST GAP: between two iterations.

          4 of 4 captures of the scheduler's memory, one per column; each froze the guest, for 3.2 ms of host time in the median

          VARIABLE             step 1  step 1  step 2  step 2
          nr_dispatched  ▁▂▃█   1 200   2 400   4 100   9 900
          nr_yielded     ▁▁▁▁       0       0       0       0

          14.0 s of host time: boot 5.0, scenario 6.0, rest 3.0  ░░░░░░░░░░░░░░█████████████████▒▒▒▒▒▒▒▒▒
          record: target/ktstr/x/record.json
        ");
    }

    #[test]
    fn a_run_that_came_to_nothing_still_has_a_screen() {
        let screen = Screen {
            verdict: "inconclusive".to_owned(),
            reason: Some("the guest did not boot".to_owned()),
            test: "two_steps".to_owned(),
            wall_s: f64::NAN,
            ..Screen::default()
        };
        assert!(render(&screen).starts_with("INCONCLUSIVE  two_steps: the guest did not boot\n"));
    }

    #[test]
    fn many_cgroups_and_counters_stay_on_one_screen() {
        let mut many = screen();
        many.cgroups = vec![many.cgroups[0].clone(); 100];
        many.counters = vec![many.counters[0].clone(); 100];
        assert!(render(&many).lines().count() <= 40);
    }

    #[test]
    fn small_parts() {
        assert_eq!(sparkline(&[Some(0), None, Some(50), Some(100)]), "▁ ▄█");
        assert_eq!(sparkline(&[Some(u64::MAX), Some(0)]), "█▁");
        assert_eq!(sparkline(&[]), "");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_000), "1 000");
        assert_eq!(bar(&[(1.0, 'a'), (3.0, 'b')], 8), "aabbbbbb");
        assert_eq!(bar(&[(0.0, 'a')], 8), "");
    }
}
