//! Everything that the guest has reported so far, in the form that the verdict needs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ktstr_assert::{AssertResult, Phase, StimulusEvent};
use ktstr_guest::protocol::{
    Ask, DiskCounters, ProcessEnd, SentSignal, StatsAnswer, Stream, ToHost, WorkerNumbers,
};
use ktstr_record::brief::counted;

use serde::{Deserialize, Serialize};

use crate::vm_result::GuestLifecyclePhase;

/// The largest number of bytes that are kept of each stream. The note that the rest was left out comes on top.
const STREAM_CAP: usize = 8 << 20;
const CUT: &str = "\n[... the rest was left out ...]\n";
/// The largest number of stimulus events that are kept: a scenario has a handful, but a hostile guest could send millions.
const EVENTS_CAP: usize = 100_000;
/// The largest number of unanswered requests. A test process sends one request at a time.
const ASKS_CAP: usize = 16;
/// The largest number of answers of a scheduler that are kept between two polls. The guest sends one
/// answer for each capture.
const STATS_CAP: usize = 16;
/// The largest number of workers whose counters are kept.
const WORKERS_CAP: usize = 100_000;

/// Everything that the guest has reported so far.
#[derive(Debug, Default, Clone)]
pub(super) struct GuestState {
    pub(super) hello: Option<Hello>,
    pub(super) phase: GuestLifecyclePhase,
    pub(super) attached: Option<Attached>,
    pub(super) not_attached: Option<String>,
    pub(super) scheduler_died: Option<ProcessEnd>,
    /// The scheduler that attached last.
    pub(super) attached_as: Started,
    /// The scheduler whose process ended last before PID 1 stopped it; `None` if there is none.
    pub(super) died_as: Option<Started>,
    /// The scheduler that the test has started last, until it attaches.
    pub(super) starting: Option<Started>,
    /// The last signal that a process sent to the scheduler.
    pub(super) scheduler_signal: Option<SentSignal>,
    /// What the scheduler's process does that outlived its end by PID 1, as a sentence; `None` if there is none.
    pub(super) scheduler_left: Option<String>,
    /// Whether the test has stopped the scheduler and no other one has attached since.
    pub(super) stopped_by_test: bool,
    /// How many times the test has stopped or started a scheduler.
    pub(super) scheduler_changes: u32,
    /// How many times a scheduler has attached in this machine, not counting the attach in the template from which the
    /// machine was forked.
    pub(super) attaches: u32,
    /// How many times a scheduler has attached again in its process, because the kernel asked it to.
    pub(super) attached_again: u32,
    /// The process ID of the test process; `None` before PID 1 passes the job to it.
    pub(super) test_pid: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) scheduler_log: String,
    pub(super) stimulus: Vec<StimulusEvent>,
    /// The unanswered requests of the test process, each with its number.
    pub(super) asks: VecDeque<(u64, Ask)>,
    /// The scheduler's answers to requests for its statistics that are not stored with a capture yet, by the capture's tag.
    pub(super) scheduler_stats: Vec<(String, StatsAnswer)>,
    /// What the test's disk has done; `None` without a disk, and before the test process has exited.
    pub(super) disk: Option<DiskCounters>,
    /// The step that has started last; 0 before the first.
    pub(super) step_index: u16,
    /// The step that is being held; `None` while a step is set up or torn down, and without a scenario.
    pub(super) held: Option<u16>,
    /// The counters of the workers, in the order in which the workers were stopped.
    pub(super) workers: Vec<WorkerNumbers>,
    pub(super) result: Option<AssertResult>,
    pub(super) error: Option<String>,
    pub(super) panic: Option<String>,
    /// How the test process ended, and whether the guest's OOM killer killed it.
    pub(super) test_end: Option<(ProcessEnd, bool)>,
    pub(super) harness_error: Option<String>,
    pub(super) bye: bool,
    /// When the scenario ended; without a scenario, when the test function returned a result, or else when
    /// its process ended.
    pub(super) over: Option<Duration>,
    /// When the test process ended.
    pub(super) ended: Option<Duration>,
    /// The number of file chunks that have been stored in the guest.
    pub(super) written: u64,
    /// Whether the scheduler and everything else that tests share is in place.
    pub(super) prepared: bool,
    /// Whether the test process waits for its job.
    pub(super) loaded: bool,
    /// When the host received the message that the test function is being called.
    pub(super) called: Option<Instant>,
    /// The time of the last message, on the clock of [`Self::window`].
    pub(super) at: Duration,
    /// The number of messages that show progress: all except what the scheduler prints.
    pub(super) progress: u64,
    /// The time of the last such message.
    pub(super) progress_at: Duration,
    /// The number of messages that have been processed.
    pub(super) count: u64,
    /// The wall time at which the host received the message that the window had opened, and the message that it had closed.
    pub(super) seen: (Option<Instant>, Option<Instant>),
    /// The workload window, measured in the guest's clock under the virtual clock, otherwise in the machine's running time.
    pub(super) window: Window,
    /// The number of scenarios that began, plus the number of those that ended.
    pub(super) scenario_edges: u32,
}

/// The guest's description of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The guest's topology as its kernel sees it, or the reason why this topology has no short form.
    pub(super) topology: Result<String, String>,
}

/// What is known about a scheduler that has attached.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Attached {
    /// The scheduler's process ID. A template keeps it, because a fork of an attached guest does not report it again.
    pub(super) pid: i32,
    /// Guest time from the scheduler's start to its attach.
    pub(super) took: Duration,
}

/// A scheduler that was started, and where its lines are in the log of all schedulers.
#[derive(Debug, Default, Clone)]
pub(super) struct Started {
    /// The name under which the test staged the scheduler; `None` for the test's own scheduler.
    pub(super) staged: Option<String>,
    /// The offset of its first line.
    log_from: usize,
    /// The offset of the first line of the scheduler that was started next; `None` if none was.
    log_to: Option<usize>,
}

/// Measures the time of the workload window, without its pauses.
#[derive(Debug, Default, Clone)]
pub(super) struct Window {
    /// When the window opened.
    pub(super) opened: Option<Duration>,
    /// When the window closed.
    pub(super) closed: Option<Duration>,
    pause_began: Option<Duration>,
    paused: Duration,
}

impl Window {
    /// Returns the window time at `now`; `None` unless the window is open and not paused.
    pub(super) fn elapsed(&self, now: Duration) -> Option<Duration> {
        match (self.opened, self.closed, self.pause_began) {
            (Some(opened), None, None) => now.checked_sub(opened)?.checked_sub(self.paused),
            _ => None,
        }
    }

    /// Returns the window time at `now`, like [`Self::elapsed`], but while the window is paused returns the time that it had
    /// reached before the pause.
    pub(super) fn counted(&self, now: Duration) -> Option<Duration> {
        let now = self.pause_began.unwrap_or(now);
        match (self.opened, self.closed) {
            (Some(opened), None) => now.checked_sub(opened)?.checked_sub(self.paused),
            _ => None,
        }
    }

    /// Returns the time at which `elapsed` of the window will have passed; `None` unless the window is open and not
    /// paused.
    pub(super) fn when(&self, elapsed: Duration) -> Option<Duration> {
        match (self.opened, self.closed, self.pause_began) {
            (Some(opened), None, None) => {
                Some(opened.saturating_add(self.paused).saturating_add(elapsed))
            }
            _ => None,
        }
    }

    fn pause(&mut self, now: Duration) {
        self.pause_began.get_or_insert(now);
    }

    fn resume(&mut self, now: Duration) {
        if let Some(began) = self.pause_began.take() {
            self.paused = self.paused.saturating_add(now.saturating_sub(began));
        }
    }
}

impl GuestState {
    /// Returns how many times a scheduler has attached in this machine, whoever asked for it.
    pub(super) fn all_attaches(&self) -> u32 {
        self.attaches.saturating_add(self.attached_again)
    }

    /// Returns the process ID of the scheduler that attached last; `None` if none has attached.
    pub(super) fn scheduler_pid(&self) -> Option<i32> {
        self.attached.as_ref().map(|attached| attached.pid)
    }

    /// Returns the scheduler whose end the guest has reported last; without such a report, the one that attached last.
    pub(super) fn ended_scheduler(&self) -> &Started {
        self.died_as.as_ref().unwrap_or(&self.attached_as)
    }

    /// Returns what [`Self::ended_scheduler`] has printed.
    pub(super) fn log_of_ended(&self) -> &str {
        let of = self.ended_scheduler();
        let to = of.log_to.unwrap_or(self.scheduler_log.len());
        self.scheduler_log.get(of.log_from..to).unwrap_or_default()
    }

    /// Processes one message. `now` is the guest time at which the message was sent under the virtual clock, otherwise the
    /// machine's running time.
    pub(super) fn take(&mut self, mut message: ToHost, now: Duration) {
        use GuestLifecyclePhase::{Attach, Body, Dispatch, Teardown};
        message.bound_texts();
        self.count += 1;
        self.at = now;
        // What a scheduler prints says nothing about the test.
        let is_of_scheduler = matches!(
            &message,
            ToHost::Output {
                stream: Stream::Scheduler,
                ..
            }
        );
        if !is_of_scheduler {
            self.progress += 1;
            self.progress_at = now;
        }
        match message {
            ToHost::Hello { topology } => {
                self.hello = Some(Hello { topology });
                self.phase = Attach;
            }
            ToHost::SchedulerStopping => {
                self.stopped_by_test = true;
                self.scheduler_changes = self.scheduler_changes.saturating_add(1);
            }
            ToHost::SchedulerStarting { staged } => {
                let at = self.scheduler_log.len();
                let before = std::iter::once(&mut self.attached_as).chain(&mut self.died_as);
                before.for_each(|started| _ = started.log_to.get_or_insert(at));
                self.starting = Some(Started {
                    staged,
                    log_from: at,
                    log_to: None,
                });
            }
            ToHost::SchedulerAttached { pid, took_ns } => {
                if let Some(started) = self.starting.take() {
                    self.attached_as = started;
                }
                self.stopped_by_test = false;
                self.attaches = self.attaches.saturating_add(1);
                self.attached = Some(Attached {
                    pid,
                    took: Duration::from_nanos(took_ns),
                });
            }
            // The message only shows that the guest is alive.
            ToHost::Alive => {}
            ToHost::SchedulerAttachedAgain => {
                self.attached_again = self.attached_again.saturating_add(1);
            }
            ToHost::SchedulerNotAttached { reason } => self.not_attached = Some(reason),
            ToHost::SchedulerDied { end, signal } => {
                self.scheduler_died = Some(end);
                self.died_as = Some(self.attached_as.clone());
                self.scheduler_signal = signal;
            }
            ToHost::SchedulerLeft { what } => self.scheduler_left = Some(what),
            ToHost::Written => self.written += 1,
            ToHost::Prepared => self.prepared = true,
            ToHost::Loaded => self.loaded = true,
            ToHost::TestStarted { pid } => {
                self.phase = Dispatch;
                self.test_pid = Some(pid);
            }
            ToHost::FunctionCalled => {
                self.called.get_or_insert_with(Instant::now);
            }
            ToHost::ScenarioStart => {
                self.scenario_edges = self.scenario_edges.saturating_add(1);
                self.phase = Body;
                self.seen = (Some(Instant::now()), None);
                self.window = Window {
                    opened: Some(now),
                    ..Window::default()
                };
            }
            ToHost::ScenarioPause => self.window.pause(now),
            ToHost::ScenarioResume => self.window.resume(now),
            ToHost::StepStart {
                step_index,
                elapsed_ms,
                op_count,
                op_kinds,
                cgroup_count,
                worker_count,
                total_iterations,
            } => {
                self.step_index = step_index;
                self.held = Some(step_index);
                let event = StimulusEvent::step_start(Phase::from(step_index), elapsed_ms);
                self.stimulus(StimulusEvent {
                    op_kind: (op_kinds != 0).then(|| format!("{op_kinds:#x}")),
                    detail: Some(format!(
                        "{}, {}, {}",
                        counted(op_count, "op"),
                        counted(cgroup_count, "cgroup"),
                        counted(worker_count, "worker")
                    )),
                    ..event.with_total_iterations(total_iterations)
                });
            }
            ToHost::StepEnd {
                step_index,
                elapsed_ms,
                total_iterations,
            } => {
                self.held = None;
                self.stimulus(
                    StimulusEvent::step_end(Phase::from(step_index), elapsed_ms)
                        .with_total_iterations(total_iterations),
                );
            }
            ToHost::ScenarioEnd {
                elapsed_ms,
                total_iterations,
            } => {
                self.scenario_edges = self.scenario_edges.saturating_add(1);
                self.phase = Teardown;
                self.held = None;
                self.window.closed = Some(now);
                self.over = Some(now);
                self.seen.1 = Some(Instant::now());
                self.stimulus(StimulusEvent {
                    elapsed_ms,
                    label: "ScenarioEnd".to_owned(),
                    total_iterations: Some(total_iterations),
                    is_terminal: true,
                    ..StimulusEvent::default()
                });
            }
            ToHost::Output { stream, text } => {
                let kept = match stream {
                    Stream::Stdout => &mut self.stdout,
                    Stream::Stderr => &mut self.stderr,
                    Stream::Scheduler => &mut self.scheduler_log,
                };
                append(kept, &text);
            }
            ToHost::Ask { number, ask } => {
                if self.asks.len() < ASKS_CAP {
                    self.asks.push_back((number, ask));
                }
            }
            ToHost::SchedulerStats { tag, answer } => {
                if self.scheduler_stats.len() < STATS_CAP {
                    self.scheduler_stats.push((tag, answer));
                }
            }
            ToHost::Disk(counters) => self.disk = Some(counters),
            ToHost::Workers(numbers) => {
                let room = WORKERS_CAP.saturating_sub(self.workers.len());
                self.workers.extend(numbers.into_iter().take(room));
            }
            ToHost::TestResult(result) => {
                self.over.get_or_insert(now);
                self.result = Some(*result);
            }
            ToHost::TestError { message } => self.error = Some(message),
            // The first panic is the cause, and any later ones are its consequences.
            ToHost::TestPanicked { message } => {
                self.panic.get_or_insert(message);
            }
            ToHost::TestEnded { end, oom_killed } => {
                self.phase = Teardown;
                self.test_end = Some((end, oom_killed));
                self.over.get_or_insert(now);
                self.ended = Some(now);
            }
            ToHost::HarnessError { message } => {
                self.harness_error.get_or_insert(message);
            }
            ToHost::Bye => self.bye = true,
        }
    }

    fn stimulus(&mut self, event: StimulusEvent) {
        if self.stimulus.len() < EVENTS_CAP {
            self.stimulus.push(event);
        }
    }
}

/// Appends output to a stream, up to [`STREAM_CAP`] bytes in total.
fn append(kept: &mut String, text: &str) {
    let room = STREAM_CAP.saturating_sub(kept.len());
    let cut = text.floor_char_boundary(room);
    kept.push_str(&text[..cut]);
    if cut < text.len() && !kept.ends_with(CUT) {
        kept.push_str(CUT);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    /// A template stores [`GuestState::attached`] as JSON.
    #[test]
    fn a_fork_of_an_attached_guest_knows_the_schedulers_process() {
        let mut state = GuestState::default();
        assert_eq!(state.scheduler_pid(), None);
        state.take(
            ToHost::SchedulerAttached {
                pid: 77,
                took_ns: 1,
            },
            secs(1),
        );
        let stored = serde_json::to_string(&state.attached).expect("serialises");
        let fork = GuestState {
            attached: serde_json::from_str(&stored).expect("reads back"),
            ..GuestState::default()
        };
        assert_eq!(fork.scheduler_pid(), Some(77));
    }

    #[test]
    fn the_window_does_not_count_its_pauses() {
        let mut state = GuestState::default();
        state.take(ToHost::ScenarioStart, secs(10));
        assert_eq!(state.window.elapsed(secs(13)), Some(secs(3)));
        state.take(ToHost::ScenarioPause, secs(15));
        assert_eq!(state.window.elapsed(secs(16)), None);
        state.take(ToHost::ScenarioResume, secs(17));
        assert_eq!(state.window.elapsed(secs(20)), Some(secs(8)));
        let end = ToHost::ScenarioEnd {
            elapsed_ms: 8000,
            total_iterations: 1,
        };
        state.take(end, secs(20));
        assert_eq!(state.window.elapsed(secs(21)), None);
    }

    proptest! {
        /// Arbitrary times in arbitrary order, as a hostile guest might send them.
        #[test]
        fn no_time_overflows_the_window(
            script in proptest::collection::vec((0..4u8, extreme_time()), 0..20),
        ) {
            let mut state = GuestState::default();
            for (kind, time_ns) in script {
                let message = match kind {
                    0 => ToHost::ScenarioStart,
                    1 => ToHost::ScenarioPause,
                    2 => ToHost::ScenarioResume,
                    _ => ToHost::ScenarioEnd {
                        elapsed_ms: time_ns,
                        total_iterations: time_ns,
                    },
                };
                let now = Duration::from_nanos(time_ns);
                state.take(message, now);
                for window in [now, Duration::from_nanos(u64::MAX)] {
                    let elapsed = state.window.elapsed(window).unwrap_or(window);
                    let next = crate::run::monitor::next_after(elapsed, time_ns);
                    prop_assert!(next > elapsed);
                    if let Some(due) = state.window.when(next) {
                        prop_assert!(due >= next);
                        crate::run::due_ns(due);
                    }
                }
            }
        }
    }

    fn extreme_time() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            Just(u64::MAX),
            Just(0),
            // The longest time whose number of monitor intervals fits into a u32.
            Just(u64::from(u32::MAX) * 100_000_000),
        ]
    }

    #[test]
    fn a_flood_of_output_is_kept_within_bounds() {
        let mut state = GuestState::default();
        let text = "é".repeat(1 << 20);
        for _ in 0..10 {
            state.take(
                ToHost::Output {
                    stream: Stream::Stderr,
                    text: text.clone(),
                },
                secs(0),
            );
        }
        assert!(state.stderr.len() <= STREAM_CAP + 100);
        assert!(state.stderr.contains("left out"));
    }

    #[test]
    fn the_first_panic_is_the_one_reported() {
        let mut state = GuestState::default();
        for message in ["first", "second"] {
            let message = message.to_owned();
            state.take(ToHost::TestPanicked { message }, secs(0));
        }
        assert_eq!(state.panic.as_deref(), Some("first"));
    }
}
