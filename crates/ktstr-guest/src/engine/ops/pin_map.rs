//! The operation that keeps a BPF map alive after its scheduler has exited. For this, the test process holds a descriptor of the
//! map.

use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context as _, Result, bail};

use super::Call;

/// Commands of bpf(2), from include/uapi/linux/bpf.h.
const MAP_GET_NEXT_ID: libc::c_long = 12;
const MAP_GET_FD_BY_ID: libc::c_long = 14;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// Maximum number of maps to search.
const MOST: usize = 4096;

pub(super) fn pin(call: &mut Call, name: &str) -> Result<()> {
    let (mut id, mut found, mut names) = (0, None, Vec::new());
    for _ in 0..MOST {
        // `attr` holds `start_id`, then `next_id`, which the kernel writes. Maps come in ascending order of their ids, so
        // the last match is the newest map of this name.
        let mut attr = [id, 0, 0, 0];
        if bpf(MAP_GET_NEXT_ID, &mut attr).is_err() {
            // No map has a higher id, or the kernel refuses to list maps. In the second case `found` stays empty.
            break;
        }
        id = attr[1];
        // Skip a map that was freed in the meantime.
        let Ok(fd) = bpf(MAP_GET_FD_BY_ID, &mut [id, 0, 0, 0]) else {
            continue;
        };
        // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
        let map = unsafe { OwnedFd::from_raw_fd(fd) };
        let known = name_of(&map).context("cannot read a map's name")?;
        if known == name {
            found = Some(map);
        }
        names.push(known);
    }
    let Some(map) = found else {
        names.sort_unstable();
        names.dedup();
        bail!("no BPF map {name:?} was found; the maps that were found: {names:?}")
    };
    call.scenario.pinned_maps.push(map);
    Ok(())
}

/// Returns the name of a map. Reads the first members of `struct bpf_map_info` up to the name, which has 16 bytes at offset 24.
fn name_of(map: &OwnedFd) -> Result<String, Error> {
    let mut info = [0u8; 40];
    let at = info.as_mut_ptr() as u64;
    // The kernel reads these words as `bpf_fd`, `info_len`, and the 64-bit pointer `info`.
    let mut attr = [
        map.as_raw_fd().cast_unsigned(),
        info.len() as u32,
        at as u32,
        (at >> 32) as u32,
    ];
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    // The compiler cannot see that the kernel has written to this memory.
    let info = std::hint::black_box(info);
    let name: Vec<u8> = info[24..].iter().copied().take_while(|b| *b != 0).collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

fn bpf(command: libc::c_long, attr: &mut [u32; 4]) -> Result<i32, Error> {
    // SAFETY: the length that is passed is that of `attr`. If `attr` contains the address of a buffer, the caller keeps that
    // buffer alive and writable.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    i32::try_from(answer)
        .ok()
        .filter(|answer| *answer >= 0)
        .ok_or_else(Error::last_os_error)
}
