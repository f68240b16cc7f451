//! Writes tracks: steps, findings, events of the whole machine, captures, and counters.

use std::collections::BTreeMap;

use ktstr_record::{CaptureRecord, RunRecord};
use ktstr_schedule::query::Did;
use serde_json::Value;

use super::protobuf::Message;
use super::{
    PACKET_SEQUENCE, PACKET_SEQUENCE_FLAGS, PACKET_TIMESTAMP, PACKET_TRACK_DESCRIPTOR,
    PACKET_TRACK_EVENT, Packets, Part,
};
use crate::captures;
use crate::report::{marks, series};
use crate::story::{Story, step};

// Field numbers of a track and of an event on it (protos/perfetto/trace/track_event/ of Perfetto).
const TRACK_ID: u32 = 1;
const TRACK_NAME: u32 = 2;
const TRACK_PARENT: u32 = 5;
const TRACK_COUNTER: u32 = 8;
const EVENT_TYPE: u32 = 9;
const EVENT_TRACK: u32 = 11;
const EVENT_NAME: u32 = 23;
const EVENT_COUNT: u32 = 30;
const EVENT_DOUBLE: u32 = 44;
// Types of an event.
const BEGIN: u64 = 1;
const END: u64 = 2;
const INSTANT: u64 = 3;
const COUNTER: u64 = 4;
/// The id of the packet sequence to which the packets of all tracks belong.
const SEQUENCE: u64 = 1;

/// Writes the tracks within this part of the schedule.
pub fn write(trace: &mut Packets, record: &RunRecord, story: &Story, captures: &Value, part: Part) {
    let mut tracks = Tracks {
        trace,
        last: 0,
        part,
    };
    let steps = tracks.track("Steps", None, false);
    for held in &story.timeline.held {
        tracks.span(steps, &step(held.number), held.from_ns, held.to_ns);
    }
    let findings = tracks.track("Findings", None, false);
    let machine = tracks.track("sched_ext and CPUs", None, false);
    for mark in marks(record, story) {
        match mark.finding {
            0 => tracks.instant(machine, &mark.text, mark.from_ns),
            number => {
                // Each finding has its own track, because the UI takes overlapping events on one track for nested ones.
                let own = tracks.track(&format!("Finding {number}"), Some(findings), false);
                tracks.span(own, &mark.text, mark.from_ns, mark.to_ns);
            }
        }
    }
    let of_captures = captures::marks(record, story);
    if !of_captures.is_empty() {
        let own = tracks.track("Captures", None, false);
        for mark in of_captures {
            tracks.instant(own, &mark.text, mark.from_ns);
        }
    }
    if let (Some(text), Some(from), Some(to)) = (
        story.complete_only(),
        story.gaps.iter().map(|gap| gap.from_ns).min(),
        story.answers.complete_from_ns,
    ) {
        let own = tracks.track("Missing events", None, false);
        tracks.span(own, &text, from, to);
    }
    waiting(&mut tracks, story);
    // The time of the window pauses while a step is set up, so the time on the kernel's scheduler clock is preferred.
    let at = |_, capture: Option<&CaptureRecord>| {
        let capture = capture?;
        let since = |clock: u64| clock as f64 / 1e6 - story.zero_ns() as f64 / 1e6;
        let elapsed = || capture.elapsed_ms.map(|ms| ms as f64);
        capture.clock_ns.map(since).or_else(elapsed)
    };
    for ((map, name), points) in series(captures, &record.captures, at) {
        let own = tracks.track(&format!("{name} ({map})"), None, true);
        for (ms, value) in points {
            let at = (story.zero_ns() as f64 + ms * 1e6) as u64;
            tracks.event(own, COUNTER, at, |event| event.double(EVENT_DOUBLE, value));
        }
    }
}

/// Writes a counter of the waiting tasks, with a value for each time at which their number changes.
fn waiting(tracks: &mut Tracks<'_>, story: &Story) {
    let mut changes: BTreeMap<u64, i64> = BTreeMap::new();
    for stretch in &story.stretches {
        if let Did::Waited { .. } = stretch.did
            && stretch.len_ns() > 0
        {
            *changes.entry(stretch.from_ns).or_default() += 1;
            *changes.entry(stretch.to_ns).or_default() -= 1;
        }
    }
    let own = tracks.track("Tasks that wait", None, true);
    let mut count = 0;
    for (at, change) in changes {
        count += change;
        if change != 0 {
            tracks.event(own, COUNTER, at, |event| event.signed(EVENT_COUNT, count));
        }
    }
}

struct Tracks<'a> {
    trace: &'a mut Packets,
    /// The id of the track that was added last; 0 before the first one.
    last: u64,
    part: Part,
}

impl Tracks<'_> {
    fn track(&mut self, name: &str, parent: Option<u64>, counter: bool) -> u64 {
        self.last += 1;
        let mut track = Message::default()
            .number(TRACK_ID, self.last)
            .text(TRACK_NAME, name);
        if let Some(parent) = parent {
            track = track.number(TRACK_PARENT, parent);
        }
        if counter {
            track = track.message(TRACK_COUNTER, &Message::default());
        }
        // The first packet of a sequence resets the state of the sequence (`SEQ_INCREMENTAL_STATE_CLEARED`, which is 1).
        let flags = u64::from(self.last == 1);
        let packet = Message::default()
            .number(PACKET_SEQUENCE, SEQUENCE)
            .number(PACKET_SEQUENCE_FLAGS, flags)
            .message(PACKET_TRACK_DESCRIPTOR, &track);
        self.trace.push(&packet);
        self.last
    }

    fn span(&mut self, track: u64, name: &str, from: u64, to: u64) {
        if from == to {
            self.instant(track, name, from);
        } else if to > self.part.from_ns && from <= self.part.to_ns {
            let from = from.max(self.part.from_ns);
            let to = to.min(self.part.to_ns);
            self.event(track, BEGIN, from, |event| event.text(EVENT_NAME, name));
            self.event(track, END, to, |event| event);
        }
    }

    fn instant(&mut self, track: u64, name: &str, at: u64) {
        self.event(track, INSTANT, at, |event| event.text(EVENT_NAME, name));
    }

    fn event(&mut self, track: u64, kind: u64, at: u64, more: impl FnOnce(Message) -> Message) {
        if !(self.part.from_ns..=self.part.to_ns).contains(&at) {
            return;
        }
        let event = Message::default()
            .number(EVENT_TYPE, kind)
            .number(EVENT_TRACK, track);
        let packet = Message::default()
            .number(PACKET_TIMESTAMP, at)
            .number(PACKET_SEQUENCE, SEQUENCE)
            .message(PACKET_TRACK_EVENT, &more(event));
        self.trace.push(&packet);
    }
}
