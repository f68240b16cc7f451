//! Guest memory as typed values: address translation, kernel structures, BPF maps, snapshots.
