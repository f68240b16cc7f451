//! A small hand-written schedule for tests: two CPUs, two steps, and a task with a hostile name that is starved in
//! the second step.

use std::collections::BTreeMap;

use ktstr_schedule::{
    Cgroup, Class, Cpu, CpuMask, Event, Pid, Reason, SchedExtState, Tables, Topology, What, Writer,
};

use super::Story;

const MS: u64 = 1_000_000;

/// Returns the events as (milliseconds, CPU, event).
fn events() -> Vec<(u64, u16, What)> {
    let switch = |prev: u32, next: u32, reason| What::Switch {
        prev: Pid(prev),
        next: Pid(next),
        reason,
    };
    let wake = |task: u32, waker: u32| What::Wake {
        task: Pid(task),
        waker: Pid(waker),
        interrupt: false,
    };
    let ready = |task: u32, on: u16| What::Enqueue {
        task: Pid(task),
        on: Cpu(on),
        class: Class::Ext,
        wakeup: true,
    };
    let name = |task: u32, name| What::Name {
        task: Pid(task),
        name,
    };
    let cgroup = |task: u32, cgroup| What::Cgroup {
        task: Pid(task),
        cgroup,
    };
    let bound = |bits: u64| What::Affinity {
        task: Pid(7),
        mask: CpuMask([bits, 0]),
    };
    let insert = What::Insert {
        task: Pid(7),
        // `SCX_DSQ_LOCAL`, the local queue.
        dsq: 1 << 63 | 2,
        slice_ns: 5 * MS,
    };
    vec![
        (1, 0, name(7, 0)),
        (1, 0, name(8, 1)),
        (1, 0, cgroup(7, 3)),
        (1, 0, cgroup(8, 4)),
        (1, 0, bound(1)),
        (1, 1, switch(9, 0, Reason::Slept)),
        (2, 0, switch(0, 8, Reason::Idle)),
        (10, 0, What::Phase { number: 1 }),
        (12, 0, wake(7, 8)),
        (12, 0, ready(7, 0)),
        (12, 0, insert),
        (17, 0, switch(8, 7, Reason::Preempted)),
        (27, 0, switch(7, 8, Reason::Slept)),
        (50, 0, What::End {}),
        (60, 0, What::Phase { number: 2 }),
        (61, 0, wake(7, 8)),
        (61, 0, ready(7, 0)),
        (61, 0, insert),
        (70, 0, bound(0b11)),
        (
            70,
            1,
            What::SchedExt {
                state: SchedExtState::Disabling,
            },
        ),
        (90, 0, What::End {}),
    ]
}

/// Returns the tables that the events refer to.
fn tables() -> Tables {
    let cgroup = |path: &str| Cgroup {
        path: path.to_owned(),
    };
    Tables {
        topology: Topology {
            llc: vec![0, 1],
            node: vec![0, 0],
        },
        names: vec!["</script>".to_owned(), "hog|`\u{202e}".to_owned()],
        cgroups: BTreeMap::from([(3, cgroup("/ktstr/<b>cell")), (4, cgroup("/ktstr/hogs"))]),
        ..Tables::default()
    }
}

/// Returns the bytes of the schedule's file.
pub fn file() -> Vec<u8> {
    written_by(Writer::default())
}

fn written_by(mut writer: Writer) -> Vec<u8> {
    for (ms, cpu, what) in events() {
        writer.push(Event {
            time_ns: ms * MS,
            cpu: Cpu(cpu),
            what,
        });
    }
    writer.finish(&tables())
}

/// Returns the bytes of the same schedule, written with a size limit that it exceeds: it is complete from 50 ms on, which is
/// 40 ms after the start of the first step.
pub fn thinned() -> Vec<u8> {
    written_by(Writer::with_cap(1))
}

/// Returns the bytes of a schedule's file with `count` switches between two tasks on one CPU, about 10 µs apart.
pub fn long(count: u64) -> Vec<u8> {
    let mut writer = Writer::default();
    let mut prev = 0;
    for number in 0..count {
        let next = 7 + (number % 2) as u32;
        let reason = if prev == 0 {
            Reason::Idle
        } else {
            Reason::Preempted
        };
        writer.push(Event {
            time_ns: (number + 1) * 10_000 + number % 7 * 100,
            cpu: Cpu(0),
            what: What::Switch {
                prev: Pid(prev),
                next: Pid(next),
                reason,
            },
        });
        prev = next;
    }
    writer.finish(&tables())
}

/// Returns the story of [`file`].
#[track_caller]
pub fn story() -> Story {
    Story::read(&file()).expect("a writer's file can be read")
}
