//! Makes a capture from a raw image of guest RAM, and prints the report as JSON.
//!
//! `inspect_image RAM KALLSYMS BTF [VARIABLE…]`: RAM is a file with guest-physical memory from address 0 on, such as the file of
//! QEMU's `memory-backend-file`. KALLSYMS is the guest's `/proc/kallsyms`, and BTF its `/sys/kernel/btf/vmlinux`. If
//! variables are named, only their values are printed. The times that the steps took go to standard error.

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use ktstr_introspect::btf::Btf;
use ktstr_introspect::capture::{CaptureOptions, capture};
use ktstr_introspect::kernel::KernelView;
use ktstr_introspect::memory::{GuestMemory, MemoryError};
use ktstr_introspect::symbols::Symbols;
use ktstr_snapshot::snapshot::Snapshot;

struct RamFile(File);

impl GuestMemory for RamFile {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let len = buf.len();
        let failed = |reason: std::io::Error| MemoryError::Host {
            gpa,
            len,
            reason: reason.to_string(),
        };
        self.0.read_exact_at(buf, gpa).map_err(failed)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ram, kallsyms, btf, variables @ ..] = arguments.as_slice() else {
        return Err("usage: inspect_image RAM KALLSYMS BTF [VARIABLE…]".into());
    };
    let ram = RamFile(File::open(ram)?);
    let start = Instant::now();
    let symbols = Symbols::from_kallsyms(&String::from_utf8_lossy(&std::fs::read(kallsyms)?))?;
    eprintln!("{} symbols in {:?}", symbols.len(), start.elapsed());
    let start = Instant::now();
    let btf = Btf::parse(std::fs::read(btf)?)?;
    eprintln!("{} types in {:?}", btf.next_id(), start.elapsed());
    let start = Instant::now();
    let view = KernelView::new(&ram, &symbols, &btf)?;
    let report = capture(&view, &CaptureOptions::default());
    eprintln!(
        "{:?}: {} maps and {} tasks in {:?}; jiffies {}",
        view.page_table(),
        report.maps.len(),
        report.task_enrichments.len(),
        start.elapsed(),
        view.jiffies()?,
    );
    if variables.is_empty() {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    for name in variables {
        println!("{name} = {:?}", Snapshot::new(&report).var(name).as_u64());
    }
    Ok(())
}
