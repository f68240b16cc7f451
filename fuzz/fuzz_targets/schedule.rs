//! `schedule.bin`: its sections, tables and events, and the queries. After damage the checksums are corrected, because a reader
//! stops at the first wrong checksum.
#![no_main]

use ktstr_fuzz::{Draw, bounded};
use ktstr_schedule::query::{
    Answers, Rules, Timeline, Trail, measures, numbers, percentile, spans, stretches,
};
use ktstr_schedule::words::Words;
use ktstr_schedule::{
    Assembler, Cgroup, Class, Cpu, CpuMask, DequeueReason, Event, Pid, Raw, Reason, SchedExtState,
    Schedule, Source, Tables, Topology, What, Writer,
};
use libfuzzer_sys::fuzz_target;

const HEADER: usize = 10;
const SECTION: usize = 9;

/// Runs the queries of all commands on a file.
fn ask(file: &[u8]) {
    let Ok(schedule) = Schedule::read(file) else {
        return;
    };
    let tables = schedule.tables();
    let _ = (schedule.gaps().count(), schedule.events());
    let rules = Rules {
        nice: false,
        cpu_weight: false,
        cpu_idle: false,
    };
    let _ = (Answers::under(&schedule, rules), Timeline::of(&schedule));
    let mut longest = 0;
    let _ = stretches(&schedule, |stretch| longest = stretch.len_ns().max(longest));
    let Ok(answers) = Answers::of(&schedule) else {
        return;
    };
    for root in ["", "/ktstr"] {
        let _ = measures(&answers, tables, root);
        let _ = numbers(&answers, tables, root, str::to_owned);
    }
    let _ = spans(&answers.marks);
    let waits = answers.waits_ns(|_| true);
    let _ = (percentile(&waits, 99.0), answers.sum(|_| true));
    let words = Words {
        tables,
        tasks: &answers.tasks,
    };
    let to = answers.to_ns.unwrap_or(u64::MAX);
    for of in [None, Some(Pid(1)), answers.tasks.keys().last().copied()] {
        for until in [to, u64::MAX] {
            if let Ok(trail) = Trail::read(&schedule, of, until, 20) {
                let _ = trail.lines(&words, answers.from_ns.unwrap_or(0));
            }
        }
        if let Some(pid) = of {
            let _ = answers.most_waited_ns(pid, to);
        }
    }
    let _ = schedule.for_each(|event| {
        if let Ok(event) = event {
            let _ = words.of_machine(event);
        }
    });
}

/// Makes the checksum of each section right.
fn seal(file: &mut [u8]) {
    let mut at = HEADER;
    while let Some(head) = file.get(at..at + SECTION) {
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some(payload) = file.get(at + SECTION..(at + SECTION).saturating_add(len)) else {
            return;
        };
        let sum = crc32fast::hash(payload).to_le_bytes();
        file[at + 5..at + 9].copy_from_slice(&sum);
        at += SECTION + len;
    }
}

fn append(file: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    file.push(kind);
    file.extend((payload.len() as u32).to_le_bytes());
    file.extend([0; 4]);
    file.extend(payload);
}

fn reason(draw: &mut Draw<'_>) -> Reason {
    use Reason::{Exited, Idle, Preempted, Slept, Yielded};
    [Slept, Preempted, Yielded, Exited, Idle][draw.index(5)]
}

fn class(draw: &mut Draw<'_>) -> Class {
    use Class::{Deadline, Ext, Fair, Idle, RealTime, Stop, Unknown};
    [Ext, Fair, Idle, Stop, Deadline, RealTime, Unknown][draw.index(7)]
}

fn dequeue_reason(draw: &mut Draw<'_>) -> DequeueReason {
    use DequeueReason::{Change, Sleep, Throttle};
    [Sleep, Change, Throttle][draw.index(3)]
}

/// Draws an event. Most are about one of eight tasks and one of eight CPUs, so later events are often about the same ones as
/// earlier events.
fn what(draw: &mut Draw<'_>) -> What {
    let kind = draw.u8();
    let task = Pid(match draw.u8() {
        255 => u32::MAX,
        254 => draw.u32(),
        few => u32::from(few % 8),
    });
    let on = Cpu(match draw.u8() {
        255 => u16::MAX,
        254 => draw.u16(),
        few => u16::from(few % 8),
    });
    match kind % 22 {
        0 => What::Switch {
            prev: task,
            next: Pid(u32::from(draw.u8() % 8)),
            reason: reason(draw),
        },
        1 => What::Wake {
            task,
            waker: Pid(u32::from(draw.u8() % 8)),
            interrupt: draw.flag(),
        },
        2 => What::Enqueue {
            task,
            on,
            class: class(draw),
            wakeup: draw.flag(),
        },
        3 => What::Dequeue {
            task,
            on,
            class: class(draw),
            reason: dequeue_reason(draw),
        },
        4 => What::Migrate { task, to: on },
        5 => What::Affinity {
            task,
            mask: CpuMask([draw.number(), draw.number()]),
        },
        6 => What::Nice {
            task,
            nice: draw.u8().cast_signed(),
        },
        7 => What::Policy {
            task,
            policy: draw.u8(),
        },
        8 => What::Cgroup {
            task,
            cgroup: draw.number(),
        },
        9 => What::Weight {
            cgroup: draw.number(),
            shares: draw.number(),
        },
        10 => What::Throttle {
            cgroup: draw.number(),
            on,
        },
        11 => What::Unthrottle {
            cgroup: draw.number(),
            on,
        },
        12 => What::Online {
            cpu: on,
            online: draw.flag(),
        },
        13 => What::Bypass { on: draw.flag() },
        14 => What::SchedExt {
            state: [SchedExtState::Enabling, SchedExtState::Disabling][draw.index(2)],
        },
        15 => What::Insert {
            task,
            dsq: draw.number(),
            slice_ns: draw.number(),
        },
        16 => What::Kick {
            cpu: on,
            flags: draw.u8(),
        },
        17 => What::Fork {
            task,
            parent: Pid(u32::from(draw.u8() % 8)),
        },
        18 => What::Name {
            task,
            name: u32::from(draw.u8() % 4),
        },
        19 => What::Exit { task },
        20 => What::Phase {
            number: u16::from(draw.u8() % 4),
        },
        _ => What::End {},
    }
}

/// Draws observations of a guest, and returns the events that the assembler makes of them.
fn events(draw: &mut Draw<'_>) -> Vec<Event> {
    let mut assembler = Assembler::default();
    let mut time_ns = [1 << 40, 0, u64::MAX - (1 << 20)][draw.index(3)];
    let mut events = Vec::new();
    while !draw.is_empty() && events.len() < 2000 {
        let control = draw.u8();
        time_ns = match control % 8 {
            0 => draw.u64(),
            1 => u64::wrapping_sub(time_ns, draw.number()),
            2 => time_ns,
            _ => u64::wrapping_add(time_ns, u64::from(draw.u8()) << (control / 8)),
        };
        let cpu = Cpu(u16::from(draw.u8() % 8));
        let what = what(draw);
        let raw = match what {
            What::Switch { prev, next, .. } => Raw::Switch {
                prev,
                next,
                yielded: control & 64 != 0,
            },
            What::Enqueue {
                task, on, class, ..
            } => Raw::Enqueue {
                task,
                on,
                class,
                flags: u64::from(control),
            },
            What::Dequeue {
                task, on, class, ..
            } if control & 128 != 0 => Raw::Dequeue {
                task,
                on,
                class,
                flags: u64::from(control),
            },
            What::End {} if control & 128 != 0 => Raw::ThrottleWork,
            plain => Raw::Plain(plain),
        };
        events.extend(assembler.take(time_ns, cpu, Pid(u32::from(control % 8)), raw));
    }
    events
}

fn tables(draw: &mut Draw<'_>) -> Tables {
    let cpus = usize::from(draw.u8() % 16);
    let place = |_| u32::from(draw.u8() % 4);
    let places: Vec<u32> = (0..2 * cpus).map(place).collect();
    let (llc, node) = places.split_at(cpus);
    let cgroups = (0..u64::from(draw.u8() % 8)).map(|id| {
        let path = format!("/ktstr/{}", draw.text());
        (id, Cgroup { path })
    });
    let cgroups = cgroups.collect();
    Tables {
        source: [Source::FunctionEntries, Source::Tracepoints][draw.index(2)],
        topology: Topology {
            llc: llc.to_vec(),
            node: node.to_vec(),
        },
        missing: vec![draw.text()],
        unreadable: draw.number(),
        names: (0..draw.u8() % 4).map(|_| draw.text()).collect(),
        cgroups,
    }
}

/// Writes a file, checks that it is read back, and returns it.
fn round_trip(draw: &mut Draw<'_>) -> Vec<u8> {
    let tables = tables(draw);
    let cap = if draw.index(4) == 0 { 64 } else { usize::MAX };
    let events = events(draw);
    let mut writer = Writer::with_cap(cap);
    events.iter().for_each(|event| writer.push(*event));
    let file = writer.finish(&tables);
    let schedule = Schedule::read(&file).expect("a writer's file can be read");
    assert_eq!(schedule.tables(), &tables);
    let read = schedule.events().expect("its events can be read");
    if cap == usize::MAX {
        assert_eq!(read, events);
    }
    file
}

/// Draws tables whose parts are repeated. Tables are compressed, so a short file can hold a long list.
fn repeated(draw: &mut Draw<'_>) -> Vec<u8> {
    let mut plain = Vec::new();
    while !draw.is_empty() && plain.len() < 1 << 20 {
        let len = usize::from(draw.u8() % 8);
        let part = draw.bytes(len);
        let times = match draw.u8() {
            255 => usize::from(draw.u16()),
            few => usize::from(few / 32),
        };
        plain.extend(part.repeat(times));
    }
    miniz_oxide::deflate::compress_to_vec(&plain, 1)
}

fn run(draw: &mut Draw<'_>) {
    const MAGIC: [u8; HEADER] = *b"KTSTRSCH\x02\x00";
    let mode = draw.u8();
    let mut file = MAGIC.to_vec();
    match mode % 5 {
        0 => return ask(draw.rest()),
        1 => {
            for _ in 0..=draw.index(4) {
                let len = usize::from(draw.u16() % 1024);
                append(&mut file, 1, draw.bytes(len));
            }
            append(&mut file, 2, &repeated(draw));
        }
        2 => {
            // A chunk without a gap, and with a plausible number of events.
            append(&mut file, 1, &[&[0, 0, 0, 0, 200, 1], draw.rest()].concat());
            let empty = Writer::default().finish(&Tables::default());
            file.extend(&empty[HEADER..]);
        }
        3 => {
            let damage = draw.bytes(usize::from(mode / 5 % 8) * 3);
            file = round_trip(draw);
            for hit in damage.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([hit[0], hit[1]])) % file.len();
                file[at] = hit[2];
            }
        }
        _ => file = round_trip(draw),
    }
    seal(&mut file);
    ask(&file);
}

fuzz_target!(|data: &[u8]| {
    bounded(|| run(&mut Draw::new(data)));
});
