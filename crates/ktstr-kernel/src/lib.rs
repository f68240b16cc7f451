//! Kernel images: find, fetch, unpack, cache; config, BTF and symbols.
