//! Pages of the kernel's trace buffer of any bytes.
#![no_main]

use ktstr_introspect::trace_buffer::events_of;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|page: &[u8]| {
    let mut read = 0;
    events_of(page, &mut |_, event| read += event.len());
    assert!(read <= page.len());
});
