// SPDX-License-Identifier: GPL-2.0-only
//! The generated skeleton: the BPF object, its maps, and the types of its global variables.

#![allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::unwrap_used, dead_code, unused_imports)]

include!(env!("SCX_KTSTR_SKELETON"));
