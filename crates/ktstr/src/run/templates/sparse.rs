//! Copies a file of guest RAM without filling its holes.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// The granularity in which a file is read, in bytes: the size of a page of the guest.
const PAGE: u64 = 4096;

/// Copies the parts of `from` that hold data to the same offsets of the new file `to`.
pub(super) fn copy(from: &File, to: &File) -> std::io::Result<()> {
    to.set_len(from.metadata()?.len())?;
    data(from, |at, bytes| to.write_all_at(bytes, at))
}

/// Returns a checksum of the contents of `file`. It covers each page that is not zero with its offset, so it does not depend
/// on where the file has holes.
pub(super) fn checksum(file: &File) -> std::io::Result<u32> {
    let mut hash = crc32fast::Hasher::new();
    data(file, |at, bytes| {
        for (offset, page) in (at..)
            .step_by(PAGE as usize)
            .zip(bytes.chunks(PAGE as usize))
        {
            if *page != [0; PAGE as usize][..page.len()] {
                hash.update(&offset.to_le_bytes());
                hash.update(page);
            }
        }
        Ok(())
    })?;
    Ok(hash.finalize())
}

/// Passes the parts of `file` that hold data to `take`, each with its offset. A part begins at a page and consists of whole
/// pages, except at the end of the file.
fn data(
    file: &File,
    mut take: impl FnMut(u64, &[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let len = file.metadata()?.len();
    let mut buffer = vec![0u8; 1 << 20];
    let mut at = 0;
    while at < len {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // The rest of the file is a hole.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        let end = end.next_multiple_of(PAGE).min(len);
        at = start / PAGE * PAGE;
        while at < end {
            let part = buffer.len().min((end - at) as usize);
            let part = &mut buffer[..part];
            file.read_exact_at(part, at)?;
            take(at, part)?;
            at += part.len() as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn holes_stay_holes() {
        let (from, to) = (
            tempfile::tempfile().expect("temporary file"),
            tempfile::tempfile().expect("temporary file"),
        );
        from.set_len(64 << 20).expect("sparse");
        from.write_all_at(b"data in the middle", 32 << 20)
            .expect("written");
        copy(&from, &to).expect("copied");
        let meta = to.metadata().expect("own file");
        assert_eq!(meta.len(), 64 << 20);
        assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
        let mut found = [0u8; 18];
        to.read_exact_at(&mut found, 32 << 20).expect("there");
        assert_eq!(&found, b"data in the middle");
    }

    #[test]
    fn a_checksum_covers_the_contents_and_not_the_holes() {
        let file = |len: u64, words: &[(&[u8], u64)]| {
            let file = tempfile::tempfile().expect("temporary file");
            file.set_len(len).expect("sparse");
            for (bytes, at) in words {
                file.write_all_at(bytes, *at).expect("written");
            }
            checksum(&file).expect("read")
        };
        let (here, there) = (5 << 20, 7 << 20);
        let one = file(8 << 20, &[(b"data", here)]);
        assert_eq!(one, file(8 << 20, &[(b"data", here), (&[0; 9000], there)]));
        assert_ne!(one, file(8 << 20, &[(b"data", there)]));
        assert_ne!(one, file(8 << 20, &[]), "the checksum covers the data");
    }
}
