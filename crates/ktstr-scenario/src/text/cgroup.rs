//! The text form of a cgroup with its limits and workers.

use super::basic::{duration_text, parse_duration};
use super::fields::Keys;
use super::node::{Node, TextError, Unsayable, Value};
use super::work::{KEYS_OF_THE_ONLY_ONE, is_plain, put_work, take_work};
use super::{Fields, Names, Text};
use crate::ops::{CgroupDef, CpuLimits, IoLimits, MemoryLimits, PidsLimits};

const KEYS: &[&str] = &[
    "name",
    "cpuset",
    "cpuset_mems",
    "cpu_max",
    "cpu_weight",
    "memory_max",
    "memory_high",
    "memory_low",
    "memory_swap_max",
    "io_weight",
    "pids_max",
    "nice",
    "comm",
    "pcomm",
    "uid",
    "gid",
    "numa_node",
    "swappable",
    "workload",
    "works",
];

/// The period of a quota in microseconds if a text leaves it out: the kernel's default.
const PERIOD_US: u64 = 100_000;

/// `cpu.max`: the CPU time in every period, `None` for no limit, and the period, both in microseconds.
struct CpuMax(Option<u64>, u64);

impl Text for CpuMax {
    fn expected() -> String {
        "CPU time in every period such as \"20ms/100ms\", or \"max\"".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        let time = |us| duration_text(std::time::Duration::from_micros(us));
        let quota = self.0.map_or_else(|| "max".to_owned(), time);
        Ok(Node::text(format!("{quota}/{}", time(self.1))))
    }

    fn take(node: &Node, _: &Names) -> Result<Self, TextError> {
        let us = |text: &str| {
            let ns = parse_duration(text)?.as_nanos();
            let whole = ns.is_multiple_of(1_000).then_some(ns / 1_000)?;
            u64::try_from(whole).ok()
        };
        let of = |text: &str| {
            let (quota, period) = match text.split_once('/') {
                Some((quota, period)) => (quota.trim(), us(period)?),
                None => (text.trim(), PERIOD_US),
            };
            match quota {
                "max" => Some(Self(None, period)),
                quota => Some(Self(Some(us(quota)?), period)),
            }
        };
        let Value::Text(text) = &node.value else {
            return Err(node.expected(&Self::expected()));
        };
        of(text).ok_or_else(|| node.expected(&Self::expected()))
    }
}

/// A limit: a number, or the word `max` for no limit.
struct Limit(Option<u64>);

impl Text for Limit {
    fn expected() -> String {
        "a whole number, or \"max\" for no limit".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        self.0
            .map_or_else(|| Ok(Node::text("max")), |number| number.put())
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        match &node.value {
            Value::Text(word) if word == "max" => Ok(Self(None)),
            Value::Integer(_) => u64::take(node, names).map(|number| Self(Some(number))),
            _ => Err(node.expected(&Self::expected())),
        }
    }
}

/// Returns the limits of a controller; `None` if none of them is set.
fn set<L: Default + PartialEq>(limits: L) -> Option<L> {
    (limits != L::default()).then_some(limits)
}

/// Returns an error if the limits of a controller are present but none of them is set: they have no text form, because a text
/// without these keys is read as `None`.
fn empty<L: Default + PartialEq>(limits: &Option<L>, what: &str) -> Result<(), Unsayable> {
    match limits {
        Some(limits) if *limits == L::default() => Err(Unsayable {
            what: format!("limits of the {what} controller of which none is set"),
            instead: "leave them out",
        }),
        _ => Ok(()),
    }
}

impl Text for CgroupDef {
    fn expected() -> String {
        "a cgroup such as { name = \"a\", workers = 2 }".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        let Self {
            name,
            cpuset,
            works,
            swappable,
            payload,
            cpuset_mems,
            cpu,
            memory,
            io,
            pids,
            default_nice,
            default_comm,
            default_uid,
            default_gid,
            default_numa_node,
            default_pcomm,
        } = self;
        empty(cpu, "cpu")?;
        empty(memory, "memory")?;
        empty(io, "io")?;
        empty(pids, "pids")?;
        let CpuLimits { max_us, weight } = cpu.unwrap_or_default();
        let MemoryLimits {
            max,
            high,
            low,
            swap_max,
        } = memory.unwrap_or_default();
        let mut keys = Keys::default();
        keys.always("name", name)?;
        keys.some("cpuset", cpuset)?;
        keys.some("cpuset_mems", cpuset_mems)?;
        keys.some(
            "cpu_max",
            &max_us.map(|(quota, period)| CpuMax(quota, period)),
        )?;
        keys.some("cpu_weight", &weight)?;
        keys.some("memory_max", &max.map(Limit))?;
        keys.some("memory_high", &high.map(Limit))?;
        keys.some("memory_low", &low.map(Limit))?;
        keys.some("memory_swap_max", &swap_max.map(Limit))?;
        keys.some("io_weight", &io.and_then(|io| io.weight))?;
        keys.some("pids_max", &pids.and_then(|pids| pids.max).map(Limit))?;
        keys.some("nice", default_nice)?;
        keys.some("comm", default_comm)?;
        keys.some("pcomm", default_pcomm)?;
        keys.some("uid", default_uid)?;
        keys.some("gid", default_gid)?;
        keys.some("numa_node", default_numa_node)?;
        keys.unless("swappable", swappable, &false)?;
        keys.some("workload", payload)?;
        match works.as_slice() {
            [] => {}
            [work] if is_plain(work) => put_work(&mut keys, work)?,
            works => keys.always("works", &works.to_vec())?,
        }
        Ok(keys.done())
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        let known = [KEYS, KEYS_OF_THE_ONLY_ONE].concat();
        let fields = Fields::of(node, &known, names)?;
        let only = KEYS_OF_THE_ONLY_ONE.iter().find_map(|key| {
            let node = fields.get(key)?;
            Some((key, node))
        });
        let works = match (fields.get("works"), only) {
            (Some(_), Some((key, node))) => {
                return Err(node.error(format!(
                    "`{key}` is for a cgroup with a single group of workers, but `works` lists the groups here: move `{key}` into one of them"
                )));
            }
            (Some(works), None) => {
                let works = Vec::take(works, names)?;
                if works.is_empty() {
                    let none = "`works` is empty: leave it out, and the cgroup has one group of workers that spin";
                    return Err(node.error(none));
                }
                works
            }
            (None, Some(_)) => vec![take_work(&fields)?],
            (None, None) => Vec::new(),
        };
        let limit = |key| Ok::<_, TextError>(fields.optional::<Limit>(key)?.map(|limit| limit.0));
        let max_us = fields.optional("cpu_max")?;
        let def = Self {
            name: fields.required("name")?,
            cpuset: fields.optional("cpuset")?,
            works,
            swappable: fields.or("swappable", || false)?,
            payload: fields.optional("workload")?,
            cpuset_mems: fields.optional("cpuset_mems")?,
            cpu: set(CpuLimits {
                max_us: max_us.map(|CpuMax(quota, period)| (quota, period)),
                weight: fields.optional("cpu_weight")?,
            }),
            memory: set(MemoryLimits {
                max: limit("memory_max")?,
                high: limit("memory_high")?,
                low: limit("memory_low")?,
                swap_max: limit("memory_swap_max")?,
            }),
            io: set(IoLimits {
                weight: fields.optional("io_weight")?,
            }),
            pids: set(PidsLimits {
                max: limit("pids_max")?,
            }),
            default_nice: fields.optional("nice")?,
            default_comm: fields.optional("comm")?,
            default_uid: fields.optional("uid")?,
            default_gid: fields.optional("gid")?,
            default_numa_node: fields.optional("numa_node")?,
            default_pcomm: fields.optional("pcomm")?,
        };
        def.validate()
            .map_err(|error| node.error(error.to_string()))?;
        Ok(def)
    }
}
