//! What the disk of a test needs: the modules of the guest's kernel, and the instructions for PID 1.

use ktstr_guest::protocol::DiskSetup;
use ktstr_kernel::cache::Cache;
use ktstr_kernel::modules::{self, Module};
use ktstr_kernel::{Kernel, progress};
use ktstr_scenario::disk::DiskConfig;
use ktstr_state::env;

use super::RunError;
use super::plan::{Files, host_file};

/// The kernel modules that a disk needs, in the order in which they are loaded.
const MODULES: [Module; 2] = [
    Module {
        option: "CONFIG_CONFIGFS_FS",
        path: "fs/configfs/configfs.ko",
    },
    Module {
        option: "CONFIG_BLK_DEV_NULL_BLK",
        path: "drivers/block/null_blk/null_blk.ko",
    },
];

/// The guest's folder for modules.
const FOLDER: &str = "/lib/modules";

/// Adds the modules of the disk to `files`, and returns the instructions for the guest.
pub(super) fn plan(
    config: &DiskConfig,
    kernel: &Kernel,
    files: &mut Files,
) -> Result<DiskSetup, RunError> {
    let found = modules::files(
        kernel,
        &MODULES,
        &Cache::from_env()?,
        env::OFFLINE.is_on(),
        &mut progress::on_stderr(),
    )?;
    let mut loaded = Vec::new();
    for module in found {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let path = format!("{FOLDER}/{name}");
        files.insert(path.clone(), host_file(&module, 0o644)?);
        loaded.push(path);
    }
    Ok(DiskSetup {
        modules: loaded,
        name: config.name.map(str::to_owned),
        capacity_mib: config.capacity_mib,
        request_ns: u64::try_from(config.request_time().as_nanos()).unwrap_or(u64::MAX),
        one_at_a_time: config.throttle.iops.is_some(),
        mib_per_sec: config.throttle.bytes_per_sec.unwrap_or(0) >> 20,
        read_only: config.read_only,
    })
}
