//! Tests of whole processes live in `tests/`; this crate has no code of its own.
