//! Combines results: appends one result to another, or makes a new result that holds if all of several results hold, or if
//! any of them does.

use super::{AssertResult, Outcome};

impl AssertResult {
    /// Adds the contents of `other`, whose records keep their phase labels.
    ///
    /// Outcomes, passes and notes are appended. If both results have a measurement with the same key, that of `other` is
    /// kept. Statistics are merged by [`crate::ScenarioStats::merge`].
    pub fn merge(&mut self, other: AssertResult) -> &mut Self {
        self.outcomes.extend(other.outcomes);
        for pass in other.passes {
            if !pass.is_truncation() || self.passes.last().is_none_or(|p| !p.is_truncation()) {
                self.push_pass(pass);
            }
        }
        self.info_notes.extend(other.info_notes);
        self.measurements.extend(other.measurements);
        self.stats.merge(other.stats);
        self
    }

    /// Combines results into one that holds if all of them hold. Without any results it is a pass.
    pub fn all_of(results: impl IntoIterator<Item = AssertResult>) -> AssertResult {
        let mut all = AssertResult::pass();
        for r in results {
            all.merge(r);
        }
        all
    }

    /// Combines results into one that holds if at least one of them holds. The details of outcomes that do not count
    /// are kept as notes.
    ///
    /// If none holds but one is inconclusive, the result is inconclusive, because that one might have held. Otherwise the
    /// result is a failure if one of them is a failure, and a skip if all are skips. Without any results it is inconclusive.
    pub fn any_of(results: impl IntoIterator<Item = AssertResult>) -> AssertResult {
        let results: Vec<_> = results.into_iter().collect();
        if results.is_empty() {
            return AssertResult::inconclusive_msg("any_of: no alternatives were given");
        }
        let keep: fn(&Outcome) -> bool = if results.iter().any(AssertResult::is_pass) {
            |_| false
        } else if results.iter().any(AssertResult::is_inconclusive) {
            |o| o.is_inconclusive() || o.is_skip()
        } else {
            |_| true
        };
        let mut any = AssertResult::all_of(results);
        let (kept, put_aside): (Vec<_>, Vec<_>) = std::mem::take(&mut any.outcomes)
            .into_iter()
            .partition(keep);
        any.outcomes = kept;
        for detail in put_aside.iter().filter_map(Outcome::detail) {
            any.note(format!(
                "any_of: this does not count, because another alternative holds or may hold: {}",
                detail.display_with_kind()
            ));
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use proptest::prelude::*;

    fn outcome() -> impl Strategy<Value = Outcome> {
        let d = "[a-c]{1,3}".prop_map(AssertDetail::from);
        prop_oneof![
            Just(Outcome::Pass),
            d.clone().prop_map(Outcome::Skip),
            d.clone().prop_map(Outcome::Inconclusive),
            d.prop_map(Outcome::Fail),
        ]
    }

    fn result() -> impl Strategy<Value = AssertResult> {
        (
            prop::collection::vec(outcome(), 0..4),
            prop::collection::btree_map("[a-c]", any::<i64>().prop_map(NoteValue::from), 0..3),
        )
            .prop_map(|(outcomes, measurements)| AssertResult {
                outcomes,
                measurements,
                ..AssertResult::default()
            })
    }

    fn merged(mut a: AssertResult, b: AssertResult) -> AssertResult {
        a.merge(b);
        a
    }

    proptest! {
        #[test]
        fn merging_is_associative(a in result(), b in result(), c in result()) {
            prop_assert_eq!(
                merged(merged(a.clone(), b.clone()), c.clone()),
                merged(a, merged(b, c))
            );
        }

        #[test]
        fn the_worst_wins(a in result(), b in result()) {
            let both = merged(a.clone(), b.clone());
            prop_assert_eq!(both.is_fail(), a.is_fail() || b.is_fail());
            let unsure = a.is_inconclusive() || b.is_inconclusive();
            prop_assert_eq!(both.is_inconclusive(), unsure && !both.is_fail());
            let one = [both.is_fail(), both.is_inconclusive(), both.is_skip(), both.is_pass()];
            prop_assert_eq!(one.iter().filter(|x| **x).count(), 1);
        }

        #[test]
        fn json_round_trip(a in result()) {
            let json = serde_json::to_string(&a).expect("serialises");
            prop_assert_eq!(serde_json::from_str::<AssertResult>(&json).expect("reads back"), a);
        }
    }

    /// JSON that a hostile guest may send is either read or refused, and whatever is read can be merged.
    #[test]
    fn absurd_json_is_read_or_refused_and_merges() {
        let max = u64::MAX;
        let odd = [
            "{}".to_owned(),
            r#"{"outcomes":["Pass"],"unknown":1}"#.to_owned(),
            format!(
                r#"{{"stats":{{"total_workers":{max},"total_iterations":{max},"worst_spread":null,
                "worst_gap_ms":{max},"ext_metrics":{{"x":"NaN","iteration_rate":1e308}},
                "phases":[{{"step_index":65535,"sample_count":{max},"end_ms":{max},"per_cgroup":{{"a":
                {{"num_workers":{max},"total_cpu_time_ns":{max},"numa_pages":{{"0":{max}}},
                "numa_pages_local":{max},"off_cpu_pcts":[null,"-inf"],"run_delays_ns":[{max},{max}],
                "wake_latencies_ns":[{max}],"stripped":true}}}}}},{{"step_index":65535}}]}}}}"#
            ),
        ];
        for json in &odd {
            let r: AssertResult = serde_json::from_str(json).expect(json);
            let mut twice = merged(r.clone(), r);
            for b in &mut twice.stats.phases {
                b.per_cgroup.values_mut().for_each(|c| c.measure());
            }
            let mut host = Vec::new();
            crate::buckets::fold_carriers(&mut host, twice.stats.phases.clone());
            for m in crate::BuiltinMetric::ALL {
                let _ = twice.stats.run_metric(*m);
                let _ = host.iter().filter_map(|b| b.metric(*m)).count();
            }
        }
        for json in [
            r#"{"stats":{"total_workers":-1}}"#,
            r#"{"outcomes":["Win"]}"#,
            "[1,2",
        ] {
            assert!(
                serde_json::from_str::<AssertResult>(json).is_err(),
                "{json}"
            );
        }
    }

    #[test]
    fn any_of_takes_the_best_and_all_of_the_worst() {
        let (p, s) = (AssertResult::pass, || AssertResult::skip("no NUMA"));
        let (f, i) = (
            || AssertResult::fail_msg("slow"),
            || AssertResult::inconclusive_msg("host"),
        );
        assert!(AssertResult::any_of([f(), p()]).is_pass());
        assert_eq!(AssertResult::any_of([f(), p()]).info_notes.len(), 1);
        assert!(AssertResult::any_of([f(), i(), s()]).is_inconclusive());
        assert!(AssertResult::any_of([f(), s()]).is_fail());
        assert!(AssertResult::any_of([s(), s()]).is_skip());
        assert!(AssertResult::any_of([]).is_inconclusive());
        assert!(AssertResult::all_of([]).is_pass());
        assert!(AssertResult::all_of([p(), i(), f()]).is_fail());
    }

    #[test]
    fn passes_are_capped_with_one_sentinel() {
        let mut r = AssertResult::pass();
        for _ in 0..MAX_RECORDED_PASSES + 5 {
            r.record_pass(PassDetail::binary("n", "eq", "1", "1"));
        }
        let twice = merged(r.clone(), r);
        assert_eq!(twice.passes.len(), MAX_RECORDED_PASSES + 1);
        let sentinels = twice.passes.iter().filter(|p| p.is_truncation()).count();
        assert_eq!(sentinels, 1);
        assert!(
            twice
                .passes
                .last()
                .is_some_and(|p| p.comparator == "truncated" && p.value == "cap=10000")
        );
    }

    #[test]
    fn into_anyhow_prefers_failures() {
        let mut r = AssertResult::pass();
        assert!(r.clone().into_anyhow_or_log().is_ok());
        r.record_skip("nothing".into());
        assert!(r.clone().into_anyhow_or_log().is_ok());
        r.record_inconclusive("host".into());
        let err = r.clone().into_anyhow_or_log().expect_err("inconclusive");
        assert_eq!(err.to_string(), "inconclusive: [Other] host");
        r.record_fail(AssertDetail::new(DetailKind::Stuck, "tid 7"));
        let err = r.into_anyhow_or_log().expect_err("fail");
        assert_eq!(err.to_string(), "failed: [Stuck] tid 7");
    }

    #[test]
    fn records_are_stamped_once() {
        let mut r = AssertResult::pass();
        {
            let _phase = crate::PhaseGuard::install_step(1);
            r.record_fail("x".into()).note("y");
            r.record_fail(AssertDetail::from("z").with_phase("own"));
            r.record_pass(PassDetail::unary("n", "is_finite", "1"));
        }
        let outer = AssertResult::all_of([r]);
        let phases: Vec<_> = outer
            .failure_details()
            .map(|d| d.phase.as_deref())
            .collect();
        assert_eq!(phases, [Some("Step[1]"), Some("own")]);
        assert_eq!(outer.info_notes[0].phase.as_deref(), Some("Step[1]"));
        assert_eq!(outer.passes[0].phase.as_deref(), Some("Step[1]"));
    }
}
