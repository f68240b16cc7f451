//! Tests of the views of a series on recorded runs: the monitor's samples, the CPU times, BPF maps, and the scheduler's
//! statistics.

use ktstr_assert::{SampleSeries, assert_scx_events_clean};

use super::fixture::{monitor, series, shown};

fn watched(captures: &str, run: &str) -> SampleSeries {
    SampleSeries::from_drained_typed(series(captures).entries().to_vec(), Some(monitor(run)))
}

#[test]
fn what_the_monitor_saw() {
    let (sound, report) = (watched("sound", "sound"), monitor("sound"));
    let view = sound.monitor().expect("there is a report");
    assert_eq!(view.samples(), report.samples);
    assert_eq!(view.summary(), &report.summary);
    assert_eq!(view.preemption_threshold_ns(), 10_000_000);
    assert!(series("sound").monitor().is_none());
}

/// In a sound run the only events come from the exit of two tasks of the harness. Under a scheduler that scatters tasks,
/// the counter `select_cpu_fallback` grows throughout the run.
#[test]
fn events_that_happened() {
    let events = |run: &str| {
        let series = watched("sound", run);
        let view = series.monitor().expect("there is a report");
        let events = view.scx_events().expect("the samples have event counters");
        (events.total_pairs(), events.rates_pairs())
    };
    let (sound, rates) = events("sound");
    assert_eq!((sound.len(), rates.len()), (13, 13));
    assert!(assert_scx_events_clean(&sound, Some(2)).is_pass());
    insta::assert_snapshot!(shown(&assert_scx_events_clean(&sound, None)), @r"
    FAIL [SchedulerEvent] sched_ext event enq_skip_exiting was counted 2 times, but at most 0 are allowed
    FAIL [SchedulerEvent] sched_ext event refill_slice_dfl was counted 2 times, but at most 0 are allowed
    ");
    let (scattered, rates) = events("scattershot");
    assert!(assert_scx_events_clean(&scattered, Some(2)).is_fail());
    let (name, rate) = rates[0];
    assert_eq!(name, "select_cpu_fallback");
    assert!((10.0..100.0).contains(&rate), "{rate}");
    assert!(assert_scx_events_clean(&[("bypass_duration", 9)], None).is_pass());
    assert!(assert_scx_events_clean(&[("x", -1)], Some(5)).is_fail());
    assert!(assert_scx_events_clean(&[], None).is_skip());
}

#[test]
fn the_time_of_the_cpus() {
    let series = series("sound");
    let host = series.host().expect("the captures have the CPU times");
    assert_eq!(host.cpus(), [0, 1, 2, 3]);
    let timeline = host.per_cpu_time_timeline(3);
    assert_eq!(timeline.len(), series.len());
    assert!(timeline.windows(2).all(|w| w[0].0 < w[1].0), "{timeline:?}");
    let user = host.per_cpu_field_u64(3, "user", |time| time.cpustat.user_ns);
    let values: Vec<u64> = user
        .values_iter()
        .map(|v| *v.as_ref().expect("the time of the CPU was measured"))
        .collect();
    assert!(values.windows(2).all(|w| w[0] <= w[1]), "{values:?}");
    assert!(values[0] < values[values.len() - 1], "{values:?}");
    let nowhere = host.per_cpu_field_u64(9, "user", |time| time.cpustat.user_ns);
    assert!(nowhere.values_iter().all(Result::is_err));
    assert!(host.per_cpu_time_timeline(9).is_empty());
    assert!(SampleSeries::empty().host().is_none());
}

#[test]
fn numbers_of_a_map_by_name() {
    let series = series("sound");
    let bss = series.bpf_map("bpf_bpf.bss");
    let (whole, floats) = (bss.u64_fields(), bss.f64_fields());
    let enqueued = |name: &str| name == "nr_enqueued";
    let (_, field) = whole
        .iter()
        .find(|(name, _)| enqueued(name))
        .expect("the map has this counter");
    assert_eq!(field.len(), series.len());
    let values: Vec<_> = field.values_iter().flatten().collect();
    assert!(values[0] < values[values.len() - 1], "{values:?}");
    assert!(floats.iter().any(|(name, _)| enqueued(name)));
    let names = bss.member_names();
    assert!(
        whole.len() < names.len(),
        "arrays and structs are not numbers, so they are left out"
    );
    assert!(series.bpf_map("nothing").u64_fields().is_empty());
}

/// `u64_fields` and `f64_fields` list the statistics whose values are numbers that the type can hold. Text, objects, and
/// names that contain a dot are left out.
#[test]
fn numbers_of_the_statistics_by_name() {
    let stats =
        serde_json::json!({"a": 7, "b": -1, "c": "text", "d": 0.5, "e": {"f": 1}, "e.f": 2});
    let capture = series("sound").entries()[0].clone();
    let drained = vec![(capture.tag, capture.report, Some(stats), Some(1))];
    let series = SampleSeries::from_drained(drained, None);
    let names = |fields: Vec<String>| fields.join(" ");
    let root = series.stats_path("");
    let whole = root.u64_fields().into_iter().map(|(name, _)| name);
    let floats = root.f64_fields().into_iter().map(|(name, _)| name);
    assert_eq!(names(whole.collect()), "a");
    assert_eq!(names(floats.collect()), "a b d");
}
