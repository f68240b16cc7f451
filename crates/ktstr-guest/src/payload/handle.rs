//! The handle of a running payload.

use std::time::Duration;

use anyhow::{Context as _, Result};
use ktstr_assert::payload::{
    Captured, MAX_PAYLOADS, MetricStream, PayloadEnd, PayloadMetrics, extract_metrics, judge,
};
use ktstr_assert::{AssertResult, MetricCheck, ScenarioStats};
use ktstr_scenario::payload::Payload;

use super::process::{Ended, Process};
use crate::protocol::ToHost;

/// A running payload. Dropping it kills the payload together with every process that it has started.
#[derive(Debug)]
#[must_use = "a payload whose handle is dropped is killed"]
pub struct PayloadHandle {
    payload: &'static Payload,
    checks: Vec<MetricCheck>,
    cgroup: Option<String>,
    limit: Duration,
    process: Process,
}

impl PayloadHandle {
    pub(super) fn new(
        payload: &'static Payload,
        checks: Vec<MetricCheck>,
        cgroup: Option<String>,
        limit: Duration,
        process: Process,
    ) -> Self {
        Self {
            payload,
            checks,
            cgroup,
            limit,
            process,
        }
    }

    /// Returns the name of the payload's declaration.
    pub fn payload_name(&self) -> &'static str {
        self.payload.name
    }

    /// Returns the payload's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid as u32
    }

    /// Returns the cgroup that the payload was started in; `None` stands for the harness's own.
    pub fn cgroup(&self) -> Option<&str> {
        self.cgroup.as_deref()
    }

    /// Waits until the payload exits, and judges it. A payload that exceeds its time limit is killed and fails.
    ///
    /// # Errors
    /// The kernel did not report how the payload ended.
    pub fn wait(mut self) -> Result<(AssertResult, PayloadMetrics)> {
        let left = self.limit.saturating_sub(self.process.age());
        let ended = self.process.has_ended(Some(left));
        // Show the host that the guest is alive: a test may wait for several payloads in turn, for each up to its time limit.
        crate::link::send(&ToHost::Alive);
        if ended {
            return self.ended(None);
        }
        self.process.kill();
        let limit_ms = self.limit.as_millis() as u64;
        self.ended(Some(PayloadEnd::TimedOut { limit_ms }))
    }

    /// Kills the payload together with every process that it has started. Its checks are judged only if it had exited
    /// by itself before.
    ///
    /// # Errors
    /// The kernel did not report how the payload ended.
    pub fn kill(mut self) -> Result<(AssertResult, PayloadMetrics)> {
        if self.process.has_ended(Some(Duration::ZERO)) {
            return self.ended(None);
        }
        self.process.kill();
        self.ended(Some(PayloadEnd::Stopped))
    }

    /// Judges the payload if it has exited; returns `None` while it runs. A payload that has exceeded its time limit
    /// is killed and fails. Once the result has been returned, a further call is an error.
    ///
    /// # Errors
    /// The kernel did not report how the payload ended, or the result was returned before.
    pub fn try_wait(&mut self) -> Result<Option<(AssertResult, PayloadMetrics)>> {
        if !self.process.is_there() {
            anyhow::bail!(
                "payload {:?}: its result was returned before",
                self.payload.name
            );
        }
        if self.process.has_ended(Some(Duration::ZERO)) {
            return self.ended(None).map(Some);
        }
        if self.process.age() < self.limit {
            return Ok(None);
        }
        self.process.kill();
        let limit_ms = self.limit.as_millis() as u64;
        self.ended(Some(PayloadEnd::TimedOut { limit_ms }))
            .map(Some)
    }

    /// Collects a payload that the test has already killed in another way, with `cgroup.kill`.
    pub(crate) fn killed(mut self) -> Result<(AssertResult, PayloadMetrics)> {
        self.process.kill();
        self.ended(Some(PayloadEnd::Stopped))
    }

    /// Reaps the payload and judges it. `forced` is how the harness ended the payload, if it did.
    fn ended(&mut self, forced: Option<PayloadEnd>) -> Result<(AssertResult, PayloadMetrics)> {
        let index = self.process.index;
        let ended = self
            .process
            .reap()
            .with_context(|| format!("payload {:?}: waiting for its exit", self.payload.name))?;
        let run = self.metrics(index, ended, forced);
        let mut result = judge(&run, &self.checks);
        if index < MAX_PAYLOADS {
            let mut kept = run.clone();
            kept.bound();
            result.stats.merge(ScenarioStats {
                payloads: vec![kept],
                ..ScenarioStats::default()
            });
        } else {
            result.note(format!(
                "payload `{}`: its metrics are not in the record, which keeps those of the first {MAX_PAYLOADS} payloads",
                run.payload
            ));
        }
        Ok((result, run))
    }

    fn metrics(&self, index: usize, ended: Ended, forced: Option<PayloadEnd>) -> PayloadMetrics {
        let format = &self.payload.output;
        let read = |stream: &Captured, name| extract_metrics(&stream.text, format, name);
        let mut metrics = read(&ended.stdout, MetricStream::Stdout);
        if metrics.is_empty() {
            metrics = read(&ended.stderr, MetricStream::Stderr);
        }
        let mut run = PayloadMetrics {
            payload_index: index,
            payload: self.payload.name.to_owned(),
            cgroup: self.cgroup.clone(),
            exit_code: match ended.end {
                PayloadEnd::Exited(code) => code,
                PayloadEnd::Signaled(signal) => 128 + signal,
                PayloadEnd::Stopped | PayloadEnd::TimedOut { .. } => 128 + libc::SIGKILL,
            },
            // A program that exited before the harness could stop it is judged by its own end, unless it had exceeded its limit.
            end: match (forced, ended.end) {
                (None, own) => own,
                (Some(PayloadEnd::Stopped), PayloadEnd::Signaled(libc::SIGKILL)) => {
                    PayloadEnd::Stopped
                }
                (Some(PayloadEnd::Stopped), own) => own,
                (Some(forced), _) => forced,
            },
            elapsed_ns: ended.elapsed_ns,
            cpu_time_ns: ended.cpu_time_ns,
            stdout: ended.stdout,
            stderr: ended.stderr,
            ..PayloadMetrics::default()
        };
        run.set_metrics(metrics, self.payload.metrics, &self.checks);
        run
    }
}
