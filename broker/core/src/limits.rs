//! Every bound of the engine, with its reason. A test reaches each of them.

/// A quote holds a price, not capacity; a longer life would let prices be hoarded.
pub const QUOTE_LIFE_MS: u64 = 120_000;

/// A hold takes capacity without money moving; a longer life would let capacity be hoarded.
pub const HOLD_LIFE_MS: u64 = 120_000;

/// Unconfirmed holds one customer may have at once.
pub const OPEN_HOLDS_MAX: usize = 16;

/// Live quotes one customer may have at once: a quote is a record and costs memory.
pub const OPEN_QUOTES_MAX: usize = 64;

/// Flows one reservation may name.
pub const FLOWS_MAX: usize = 8;

/// How far ahead a window may end: calendars allocate a page per day.
pub const HORIZON_MS: u64 = 92 * 86_400_000;

/// Longest window.
pub const WINDOW_MS_MAX: u64 = 31 * 86_400_000;

/// Shortest window: below it not one poll of a meter is sure to fall inside.
pub const WINDOW_MS_MIN: u64 = 5_000;

/// Most payload bytes of one need: a petabyte, far above a link-month and far below overflow.
pub const BYTES_MAX: u64 = 1_000_000_000_000_000;

/// Highest rate a need may name: 10 Tbit/s, far below overflow.
pub const RATE_BPS_MAX: u64 = 10_000_000_000_000;

/// Price and rate segments of one reservation; a schedule must fit every adapter.
pub const SEGMENTS_MAX: usize = tollway_model::schedule::SEGMENTS_MAX;

/// Starts tried for a counter-offer "later": four a slot group over a day.
pub const LATER_TRIES_MAX: usize = 512;

/// How far ahead a counter-offer "later" looks.
pub const LATER_AHEAD_MS: u64 = 86_400_000;

/// A key's answer is kept so long.
pub const KEY_LIFE_MS: u64 = 86_400_000;

/// Keys one customer may have alive; each costs 48 bytes.
pub const KEYS_PER_CUSTOMER_MAX: usize = 100_000;

/// A refused leg is tried again after this.
pub const LEG_RETRY_MS: u64 = 1_000;

/// A leg that was in force and is refused since is asked for again after this: it may stay so for a month, and
/// each try is two records. The enforcement point repairs what it can by itself.
pub const LEG_RETRY_LATER_MS: u64 = 30_000;

/// After a leg's end the last reading is awaited this long before the rest of the hold is given back: as
/// long as an agent keeps readings.
pub const SETTLE_MS_MAX: u64 = 6 * 3_600_000;

/// A settled reservation stays known to the engine so long, to answer repeated verbs by name.
pub const ENDED_KEPT_MS: u64 = 3_600_000;

/// Which reservation a quote became is told so long, to a client that takes it again under another key.
pub const TAKEN_KEPT_MS: u64 = 3_600_000;

/// Reports in one batch of an adapter.
pub const REPORTS_PER_BATCH_MAX: usize = 1_000;

/// Learnt accesses of a market; each costs some 500 bytes.
pub const LEARNT_ACCESSES_MAX: usize = 1_000_000;

/// Longest part of a session's name: an identity of Diameter is at most 255 bytes, its Session-Id somewhat longer.
pub const SESSION_NAME_BYTES_MAX: usize = 512;

/// Past counter lives remembered per leg, so that a late reading of one is not taken for a new life.
pub const PAST_INCARNATIONS_MAX: usize = 8;

/// Longest reason text taken from an adapter or a person, in bytes.
pub const REASON_BYTES_MAX: usize = 500;

/// A reading may run ahead of the engine's clock by this much; an agent's offset above it is shown.
pub const CLOCK_TOLERANCE_MS: u64 = 1_000;

/// Least grace of a start, whatever the tier says: an install takes some milliseconds.
pub const START_GRACE_MS_MIN: u64 = 1_000;
