//! Operations on kernel memory. While the test waits, the host reads or writes the memory from outside, or
//! sets up a watch on it.

use anyhow::{Error, Result, bail};
use ktstr_scenario::ops::{KernelTarget, KernelValue, KernelValueWidth, validate_writes};

use super::Call;
use super::capture::{ask, check};
use crate::protocol::{Ask, MAX_TAG};

type Writes = [(KernelTarget, KernelValue)];

pub(super) fn watch(_: &mut Call, symbol: &str) -> Result<()> {
    if symbol.is_empty() || symbol.len() > MAX_TAG {
        let length = symbol.len();
        bail!("the symbol has {length} bytes, but the name of a variable has 1 to {MAX_TAG}")
    }
    ask(Ask::Watch {
        symbol: symbol.to_owned(),
    })
}

pub(super) fn write_hot(_: &mut Call, writes: &Writes) -> Result<()> {
    write(writes, false)
}

pub(super) fn write_cold(_: &mut Call, writes: &Writes) -> Result<()> {
    write(writes, true)
}

fn write(writes: &Writes, cold: bool) -> Result<()> {
    validate_writes(writes).map_err(Error::msg)?;
    ask(Ask::WriteKernel {
        writes: writes.to_vec(),
        cold,
    })
}

pub(super) fn read_hot(
    _: &mut Call,
    tag: &str,
    target: &KernelTarget,
    width: &KernelValueWidth,
) -> Result<()> {
    read(tag, target, *width, false)
}

pub(super) fn read_cold(
    _: &mut Call,
    tag: &str,
    target: &KernelTarget,
    width: &KernelValueWidth,
) -> Result<()> {
    read(tag, target, *width, true)
}

fn read(tag: &str, target: &KernelTarget, width: KernelValueWidth, cold: bool) -> Result<()> {
    check(tag)?;
    width.validate().map_err(Error::msg)?;
    ask(Ask::ReadKernel {
        tag: tag.to_owned(),
        target: target.clone(),
        width,
        cold,
    })
}
