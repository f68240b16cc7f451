//! Copies a file of guest RAM without filling its holes.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Copies the parts of `from` that hold data to the same offsets of the new file `to`.
pub(super) fn copy(from: &File, to: &File) -> std::io::Result<()> {
    let len = from.metadata()?.len();
    to.set_len(len)?;
    let mut buffer = vec![0u8; 1 << 20];
    let mut at = 0;
    while at < len {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // The rest of the file is a hole.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start))?.min(len);
        at = start;
        while at < end {
            let part = buffer.len().min((end - at) as usize);
            let part = &mut buffer[..part];
            from.read_exact_at(part, at)?;
            to.write_all_at(part, at)?;
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
}
