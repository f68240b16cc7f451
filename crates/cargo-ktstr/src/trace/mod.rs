//! `cargo ktstr trace`: writes the schedule of a recorded run as a trace for the Perfetto UI.
//!
//! Switches and wake-ups are written as the kernel's own tracepoints, from which the UI draws CPUs, the states of threads, and
//! which task woke which. Steps, findings, captures, events of the machine and counters are written as separate tracks.

mod ftrace;
mod part;
mod protobuf;
#[cfg(test)]
mod read;
mod tracks;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ktstr_record::terminal::eprint_line;
use ktstr_record::{RunRecord, read as read_record, runs_root};
use ktstr_schedule::Schedule;
use serde_json::Value;

use crate::exit::Exit;
use crate::replay;
use crate::story::{self, Story};
use part::{Last, Part};
use protobuf::Message;

/// The default file name of the trace, in the folder of the record.
const TRACE: &str = "trace.pftrace";

// Field numbers of a trace and its packets (protos/perfetto/trace/trace.proto and trace_packet.proto of Perfetto).
const TRACE_PACKET: u32 = 1;
const PACKET_FTRACE: u32 = 1;
const PACKET_TIMESTAMP: u32 = 8;
const PACKET_SEQUENCE: u32 = 10;
const PACKET_TRACK_EVENT: u32 = 11;
const PACKET_SEQUENCE_FLAGS: u32 = 13;
const PACKET_SYSTEM_INFO: u32 = 45;
const PACKET_TRACK_DESCRIPTOR: u32 = 60;

/// The options of `cargo ktstr trace`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The run: its name or the start of it, as `cargo ktstr runs` lists it, or the path of its folder or of its `record.json`.
    #[arg(value_name = "RUN")]
    record: PathBuf,
    /// Write a trace for the Perfetto UI. This is the only format so far, and the option is required.
    #[arg(long, required = true)]
    perfetto: bool,
    /// Where to write the trace; the default is `trace.pftrace` in the folder of the record.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write only a part of the schedule. `500ms`: its last 500 ms. `500ms-before-finding`: the 500 ms up to the end of what the
    /// first finding is about, for example of a long wait. `500ms-before-finding-2`: the same for the second finding. A finding
    /// about a whole step or run cannot be used.
    #[arg(long, value_name = "LENGTH[-before-finding[-N]]")]
    last: Option<Last>,
}

/// Writes the trace, and prints its path.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    ensure!(options.perfetto, "name the trace's format: --perfetto");
    let path = replay::find(&options.record, &runs_root())?;
    let record = read_record(&path)?;
    let (from, file) = story::bytes(&path)?;
    // Without captures that can be read, the trace has no counters of the scheduler's variables.
    let captures = fs::read(path.with_file_name("captures.json")).ok();
    let captures = captures.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let trace = trace(
        &record,
        &file,
        &captures.unwrap_or(Value::Null),
        options.last,
    )
    .with_context(|| from.display().to_string())?;
    let to = options.output.clone();
    let to = to.unwrap_or_else(|| path.parent().unwrap_or(Path::new(".")).join(TRACE));
    fs::write(&to, trace).with_context(|| format!("writing the trace to {}", to.display()))?;
    writeln!(out, "{}", to.display())?;
    if let Some(covers) = Story::read(&file)
        .ok()
        .and_then(|story| story.complete_only())
    {
        eprint_line(&format!("note: {covers}"));
    }
    Ok(Exit::Done)
}

/// Builds the whole trace.
fn trace(record: &RunRecord, file: &[u8], captures: &Value, last: Option<Last>) -> Result<Vec<u8>> {
    let story = Story::read(file)?;
    let schedule = Schedule::read(file)?;
    let part = Part::of(record, &story, last)?;
    let mut trace = Packets::default();
    // The UI interprets the states of threads by the kernel's version. In `Utsname`, 1 is the field `sysname` and 3
    // is `release`.
    let release = record.kernel.as_deref().unwrap_or("7.0");
    let utsname = Message::default().text(1, "Linux").text(3, release);
    let system = Message::default().message(1, &utsname);
    trace.push(&Message::default().message(PACKET_SYSTEM_INFO, &system));
    ftrace::write(&mut trace, &schedule, &story, part)?;
    tracks::write(&mut trace, record, &story, captures, part);
    Ok(trace.0.0)
}

/// The packets of a trace, one after the other.
#[derive(Debug, Default)]
struct Packets(Message);

impl Packets {
    fn push(&mut self, packet: &Message) {
        let all = std::mem::take(&mut self.0);
        self.0 = all.message(TRACE_PACKET, packet);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
