//! A BPF map that outlives its scheduler: the test's process holds a file descriptor of it.

use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context as _, Result, bail};

use super::Call;

/// Commands of bpf(2) (include/uapi/linux/bpf.h).
const MAP_GET_NEXT_ID: libc::c_long = 12;
const MAP_GET_FD_BY_ID: libc::c_long = 14;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// Maps that are looked at.
const MOST: usize = 4096;

pub(super) fn pin(call: &mut Call, name: &str) -> Result<()> {
    let (mut id, mut found, mut names) = (0, None, Vec::new());
    for _ in 0..MOST {
        let mut attr = [id, 0, 0, 0];
        if bpf(MAP_GET_NEXT_ID, &mut attr).is_err() {
            // The one before was the last: or maps cannot be listed, and none is found.
            break;
        }
        id = attr[1];
        // One that ends meanwhile is none.
        let Ok(fd) = bpf(MAP_GET_FD_BY_ID, &mut [id, 0, 0, 0]) else {
            continue;
        };
        // SAFETY: the kernel has just made it, and nobody else has it.
        let map = unsafe { OwnedFd::from_raw_fd(fd) };
        let known = name_of(&map).context("a map's name cannot be read")?;
        if known == name {
            found = Some(map);
        }
        names.push(known);
    }
    let Some(map) = found else {
        names.sort_unstable();
        names.dedup();
        bail!("the kernel has no BPF map {name:?}; it has: {names:?}")
    };
    call.scene.pinned_maps.push(map);
    Ok(())
}

/// The first members of `struct bpf_map_info` up to the name, which has 16 bytes.
fn name_of(map: &OwnedFd) -> Result<String, Error> {
    let mut info = [0u8; 40];
    let at = info.as_mut_ptr() as u64;
    let mut attr = [
        map.as_raw_fd().cast_unsigned(),
        info.len() as u32,
        at as u32,
        (at >> 32) as u32,
    ];
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    // Written by the kernel behind the compiler's back.
    let info = std::hint::black_box(info);
    let name: Vec<u8> = info[24..].iter().copied().take_while(|b| *b != 0).collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

fn bpf(command: libc::c_long, attr: &mut [u32; 4]) -> Result<i32, Error> {
    // SAFETY: the attribute is as long as is said, and what it points to lives on in the caller.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    i32::try_from(answer)
        .ok()
        .filter(|answer| *answer >= 0)
        .ok_or_else(Error::last_os_error)
}
