// SPDX-License-Identifier: GPL-2.0-only
//! Loads and attaches the scheduler, turns on each timed defect when its time comes, and ends on a
//! signal, after `--exit-after`, or when the kernel ejects the scheduler.

use crate::cli::Options;
use crate::exit::Exit;
use crate::signals::Signals;
use crate::skel::{BpfSkelBuilder, OpenBpfSkel};
use crate::stats::{Counters, Server};
use crate::topology::Topology;
use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::{Duration, Instant};

/// The scheduler stalls once this file exists.
const STALL_FILE: &str = "/tmp/ktstr_stall";

/// The scheduler is degraded once this file exists.
const DEGRADE_FILE: &str = "/tmp/ktstr_degrade";

/// Interval at which the switches and the exit record are polled.
const TICK: Duration = Duration::from_millis(100);

/// The kernel's count of how often a CPU went online or offline. [`open_settings`] uses it.
const HOTPLUG_SEQ: &str = "/sys/kernel/sched_ext/hotplug_seq";

/// The message on a kernel whose BTF does not let schedulers create queues.
const WITHOUT_QUEUES: &str = "ktstr: this kernel's BTF has no usable scx_bpf_create_dsq (it was built with pahole before \
                              1.31), so no scheduler can create queues: all tasks share the kernel's global queue, and \
                              weights only change the length of their slices";

/// How one load of the scheduler ended.
enum End {
    /// It ended on SIGINT or SIGTERM or after `--exit-after`, or was unregistered from outside.
    Clean,
    /// The kernel asks for the scheduler to be loaded again (CPU hotplug).
    Restart,
    /// The kernel ejected it.
    Ejected,
}

/// Schedules until the scheduler ends, and loads it again when the kernel asks for that. Returns
/// false if the kernel ejected it.
///
/// # Errors
/// The scheduler cannot be loaded or attached.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let signals = Signals::block().context("cannot block SIGINT and SIGTERM")?;
    loop {
        match live(options, &signals)? {
            End::Clean => return Ok(true),
            End::Ejected => return Ok(false),
            End::Restart if options.has_defect("leave-on-hotplug") => return Ok(true),
            End::Restart => eprintln!("ktstr: restarting on the kernel's request"),
        }
    }
}

/// Loads and attaches the scheduler once, and returns how it ended.
fn live(options: &Options, signals: &Signals) -> Result<End> {
    let mut object = MaybeUninit::uninit();
    let mut open = BpfSkelBuilder::default()
        .open(&mut object)
        .context("cannot open the BPF object")?;
    open_settings(&mut open, options)?;
    let mut skel = open
        .load()
        .context("cannot load the BPF object (the log above says why)")?;
    let link = skel
        .maps
        .ktstr_ops
        .attach_struct_ops()
        .context("cannot attach: is another sched_ext scheduler running?")?;
    println!("ktstr: attached");
    if skel
        .maps
        .bss_data
        .as_deref()
        .is_some_and(|bss| bss.no_queues != 0)
    {
        println!("{WITHOUT_QUEUES}");
    }

    let mut server = options.stats.then(Server::open).transpose()?;
    let start = Instant::now();
    let exit = loop {
        let signalled = match &server {
            Some(server) => signals.wait_or_arrival(server.descriptors(), TICK),
            None => signals.wait(TICK),
        };
        if signalled {
            break None;
        }
        if let (Some(server), Some(bss)) = (&mut server, skel.maps.bss_data.as_deref()) {
            server.serve(Counters {
                nr_dispatched: read(&bss.nr_dispatched),
                nr_enqueued: read(&bss.nr_enqueued),
                nr_select_cpu: read(&bss.nr_select_cpu),
                stats_magic: read(&bss.stats_magic),
            });
        }
        let record = skel
            .maps
            .data_exit_data
            .as_deref()
            .map(|data| &data.exit_record);
        if let Some(exit) = record.and_then(Exit::read) {
            break Some(exit);
        }
        let due = |after: Option<Duration>| after.is_some_and(|after| start.elapsed() >= after);
        if due(options.exit_after) {
            println!("ktstr: exiting, because the time of --exit-after has passed");
            break None;
        }
        if let Some(bss) = skel.maps.bss_data.as_deref_mut() {
            // The switches are only turned on here, never off, because the host may have turned a
            // switch on by writing to the guest's memory.
            if due(options.stall_after) || Path::new(STALL_FILE).exists() {
                switch_on(&mut bss.stall, "stall");
            }
            if due(options.crash_after) {
                switch_on(&mut bss.crash, "crash");
            }
            if due(options.degrade_after) || Path::new(DEGRADE_FILE).exists() {
                switch_on(&mut bss.degrade_rt, "degrade");
            }
        }
    };

    drop(link);
    let exit = exit.or_else(|| {
        let record = skel
            .maps
            .data_exit_data
            .as_deref()
            .map(|data| &data.exit_record);
        record.and_then(Exit::read)
    });
    let Some(exit) = exit else {
        return Ok(End::Clean);
    };
    eprintln!("ktstr: {exit}");
    if exit.is_clean() {
        return Ok(End::Clean);
    }
    if !exit.dump.is_empty() {
        eprintln!("ktstr: sched_ext dump follows\n{}", exit.dump.trim_end());
    }
    Ok(if exit.wants_restart() {
        End::Restart
    } else {
        End::Ejected
    })
}

/// Sets the values that are constant from load on.
fn open_settings(open: &mut OpenBpfSkel<'_>, options: &Options) -> Result<()> {
    let topology = Topology::read();
    let rodata = open
        .maps
        .rodata_data
        .as_deref_mut()
        .context("the BPF object has no .rodata")?;
    rodata.defects = options.defects;
    let cpus = topology.cpu_llc.len().min(rodata.cpu_llc.len());
    rodata.cpu_llc[..cpus].copy_from_slice(&topology.cpu_llc[..cpus]);
    rodata.nr_cpus = cpus.max(1) as u32;
    rodata.nr_llcs = topology.nr_llcs;

    // With this number, the kernel refuses to attach if a CPU went online or offline since the
    // number was read. The scheduler would otherwise run with a stale topology.
    if let Some(seq) = std::fs::read_to_string(HOTPLUG_SEQ)
        .ok()
        .and_then(|s| s.trim().parse().ok())
    {
        open.struct_ops.ktstr_ops_mut().hotplug_seq = seq;
    }
    Ok(())
}

/// Reads a counter that the BPF part changes at any time.
fn read(counter: &u64) -> u64 {
    // SAFETY: the reference is valid.
    unsafe { std::ptr::read_volatile(counter) }
}

/// Sets a word that the BPF part reads, and prints a message if the word was not set before.
fn switch_on(word: &mut u32, name: &str) {
    // SAFETY: the reference is valid. The access is volatile because the BPF part reads the word, and
    // the host may write it, at any time.
    unsafe {
        if std::ptr::read_volatile(word) == 0 {
            std::ptr::write_volatile(word, 1);
            println!("ktstr: {name} switched on");
        }
    }
}
