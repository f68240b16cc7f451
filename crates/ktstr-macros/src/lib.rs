//! The attribute and declaration macros of ktstr.
