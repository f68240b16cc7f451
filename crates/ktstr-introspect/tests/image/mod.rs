//! Recorded images of guests: the pages that the readers read, and the symbols and types that they need.

use std::collections::HashMap;

use ktstr_introspect::btf::Btf;
use ktstr_introspect::capture::{CaptureOptions, capture};
use ktstr_introspect::kernel::KernelView;
use ktstr_introspect::memory::{GuestMemory, MemoryError};
use ktstr_introspect::symbols::Symbols;
use ktstr_snapshot::report::FailureDumpReport;

/// Recorded pages by guest-physical address.
#[derive(Clone)]
pub struct Image(pub HashMap<u64, Vec<u8>>);

impl GuestMemory for Image {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let len = buf.len();
        let (page, inside) = (gpa & !0xfff, (gpa & 0xfff) as usize);
        let page = self.0.get(&page);
        let bytes = page.and_then(|page| page.get(inside..inside + len));
        buf.copy_from_slice(bytes.ok_or(MemoryError::NotRecorded { gpa, len })?);
        Ok(())
    }
}

/// An image with its symbols and types.
pub struct Recording {
    pub image: Image,
    pub symbols: Symbols,
    pub btf: Btf,
}

impl Recording {
    /// Unpacks the three files that `examples/record_image.rs` writes.
    pub fn unpack(pages: &[u8], kallsyms: &str, btf: &[u8]) -> Self {
        let unpack = |bytes| miniz_oxide::inflate::decompress_to_vec_zlib(bytes).unwrap();
        let pages = unpack(pages);
        let pages = pages.chunks_exact(8 + 4096).map(|chunk| {
            let (gpa, page) = chunk.split_at(8);
            (u64::from_le_bytes(gpa.try_into().unwrap()), page.to_vec())
        });
        Self {
            image: Image(pages.collect()),
            symbols: Symbols::from_kallsyms(kallsyms).unwrap(),
            btf: Btf::parse(unpack(btf)).unwrap(),
        }
    }

    /// Captures `image`, which is the image of this recording or a damaged copy of it.
    pub fn capture(&self, image: &Image) -> FailureDumpReport {
        match KernelView::new(image, &self.symbols, &self.btf) {
            Ok(view) => capture(&view, &CaptureOptions::default()),
            Err(error) => FailureDumpReport::placeholder(error.to_string()),
        }
    }
}
