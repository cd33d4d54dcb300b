//! Every bound of the edge, with its reason. What the engine bounds is in `tollway_core::limits`.

use std::time::Duration;

/// Largest body, in bytes: far above the largest request that means anything (8 flows).
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// A body must have come by then: a client that trickles holds a connection, not the broker.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A request's head must have come by then, and a connection that is idle between requests is closed after it.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections at once. More wait in the kernel's queue; each costs a descriptor and some kilobytes.
pub const CONNECTIONS_MAX: usize = 4_096;

/// Buffer for a request's head, in bytes: hyper refuses what outgrows it, within one read more, with 431.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Longest `Idempotency-Key`, in characters.
pub const KEY_CHARS_MAX: usize = 128;

/// Longest `x-correlator`, in characters (CAMARA Commonalities).
pub const CORRELATOR_CHARS_MAX: usize = 256;

/// Longest message of an error, in characters; hostile input is not echoed at length.
pub const MESSAGE_CHARS_MAX: usize = 512;

/// Rows of a page when the caller does not say.
pub const PAGE_ROWS_DEFAULT: u32 = 50;

/// Most rows of a page; a row is a few kilobytes.
pub const PAGE_ROWS_MAX: u32 = 100;

/// Rows of a page of readings or events when the caller does not say: over an hour of 5 s slots.
pub const READINGS_DEFAULT: u32 = 1_000;

/// Most rows of such a page; a row is a few hundred bytes.
pub const READINGS_MAX: u32 = 5_000;

/// Longest `end_in_s`: a hundred years, far beyond what is sold and far below overflow.
pub const END_IN_S_MAX: u64 = 3_153_600_000;

/// Largest single top-up, in micro-units: ten million currency units. Keeps sums of any plausible number of
/// them inside the ledger's 64 bits.
pub const TOP_UP_MICROS_MAX: i64 = 10_000_000_000_000;

/// Accesses that readiness names of an enforcement point that is away; the rest is counted.
pub const ACCESSES_NAMED_MAX: usize = 8;
