//! Where the wall time of a run goes, and how long a capture freezes the guest.

use ktstr_record::RunRecord;

use super::case::{Measured, Start};
use super::page::{Row, Section, Unit};
use super::part;
use crate::summary::Summary;

/// The parts of a run's wall time: the name of each in the record, and what happens in it.
const PARTS: [(&str, &str); 7] = [
    ("resolve", "find QEMU, kernel and scheduler"),
    ("initramfs", "gather the guest's files"),
    ("slot", "wait until the host has room for the machine"),
    ("boot", "QEMU's start to the test function, attach included"),
    ("window", "the workload"),
    ("captures", "the guest frozen, four times"),
    ("teardown", "the window's end to QEMU's end"),
];

/// Returns the section for the cold and the warm cases with two CPUs.
pub fn section(measured: &[Measured]) -> Section {
    let cases: Vec<&Measured> = measured
        .iter()
        .filter(|m| m.case.cpus == 2 && m.case.start != Start::Rebuilt)
        .collect();
    let over = |name, about: &str, values: &dyn Fn(&Measured, &RunRecord) -> Vec<f64>| Row {
        name,
        unit: Unit::Seconds,
        about: about.to_owned(),
        cells: cases
            .iter()
            .map(|m| Summary::of(m.records.iter().flat_map(|record| values(m, record))))
            .collect(),
    };
    let mut rows: Vec<Row> = PARTS
        .iter()
        .map(|&(name, about)| {
            over(name, about, &|_, record| {
                part(record, name).into_iter().collect()
            })
        })
        .collect();
    rows.push(over(
        "rest",
        "wall time that belongs to none of the parts above",
        &|_, record| {
            let parts: f64 = PARTS
                .iter()
                .filter_map(|(name, _)| part(record, name))
                .sum();
            vec![(record.wall_s - parts).max(0.0)]
        },
    ));
    rows.push(over("wall", "the whole run", &|_, record| {
        vec![record.wall_s]
    }));
    rows.push(over(
        "restore",
        "part of boot: from QEMU's start until the guest is restored and can execute its first instruction",
        &|_, record| part(record, "restore").into_iter().collect(),
    ));
    // A fork's record has the attach time of its template, which attached the scheduler, so forks are left out here.
    rows.push(over(
        "attach",
        "part of boot, in guest time: from the scheduler's start to its attach",
        &|m, record| {
            let attach = (m.case.start == Start::Cold).then(|| part(record, "attach"));
            attach.flatten().into_iter().collect()
        },
    ));
    rows.push(over(
        "monitor",
        "reading the samples of the runqueues, mostly in the window",
        &|_, record| part(record, "monitor").into_iter().collect(),
    ));
    rows.push(over("freeze", "one capture", &|_, record| {
        record.freeze_ms.iter().map(|ms| ms / 1e3).collect()
    }));
    Section {
        title: "Where a run's time goes: 2 CPUs, window 1 s",
        columns: cases
            .iter()
            .map(|m| format!("{} {}", m.case.scheduler, m.case.start.name()))
            .collect(),
        rows,
    }
}
