//! Every bound of the crate with its reason. Times are milliseconds.

/// AF sessions of all PCRFs together, those that are being ended included: two a leg.
pub const SESSIONS_MAX: usize = 200_000;
/// Legs of all PCRFs together: half of the sessions, so that each may have one that ends beside one that serves. At
/// 2.3 KB with its session (measured), 230 MB.
pub const LEGS_MAX: usize = 100_000;
/// PCRFs in the settings; the Diameter node has as many peers.
pub const PCRFS_MAX: usize = 64;
/// Flows of one leg, each its own media component. Component numbers are kept in a byte's bits.
pub const FLOWS_MAX: u8 = 8;
/// Specific-Action in one RAR: 21 are defined.
pub const ACTIONS_MAX: usize = 32;
/// Flows in one RAR: one a media component, and a PCRF may split them.
pub const FLOWS_REPORTED_MAX: usize = 64;
/// Media-Component-Description in one Acceptable-Service-Info.
pub const COMPONENTS_OFFERED_MAX: usize = 64;
/// End-to-end ids of a session's usage reports that are remembered, so that a repeated one counts once. A PCRF
/// repeats within seconds, and reports usage once a threshold.
pub const USAGE_SEEN_MAX: usize = 8;
/// Names that the operator or a tier says: an application, a sponsor, an APN (TS 23.003 §9.1), an IP domain.
pub const TEXT_LEN_MAX: usize = 100;
/// Characters of a PCRF's Error-Message that go into a reason.
pub const ERROR_TEXT_LEN_MAX: usize = 120;

/// AAR and STR a second to one PCRF, if its setting does not say.
pub const RATE_DEFAULT: u32 = 200;
/// Unused sending time that may be caught up at once: a twentieth of a second's share.
pub const BURST_MS: u64 = 50;
/// Requests to one PCRF without an answer: a quarter of what the Diameter node holds for a peer.
pub const IN_FLIGHT_MAX: usize = 4_096;
/// For an AAA or STA, if the PCRF's setting does not say. A PCRF asks its gateway first; the Diameter node fails
/// over within it.
pub const ANSWER_MS: u64 = 5_000;
/// Pause of a PCRF after TOO_BUSY and UNABLE_TO_DELIVER, and of a session after no answer: doubled each time.
pub const BACK_OFF_MS_MIN: u64 = 1_000;
pub const BACK_OFF_MS_MAX: u64 = 32_000;
/// Until a session that the PCRF took away is asked for again: doubled each time.
pub const REPAIR_MS_MIN: u64 = 10_000;
pub const REPAIR_MS_MAX: u64 = 300_000;
/// After an AAR went unanswered and a newer one was taken: until the service is told once more, since a copy of the
/// older one may have come late. Longer than a relay holds a message whose answer nobody waits for.
pub const COPY_MS: u64 = 60_000;
/// Requests without an answer after which the host is not named any more: another one of the realm may answer.
pub const HOST_TRIES_MAX: u8 = 2;
/// STRs that are refused with a permanent error other than 5002, one after the other, until the session counts as
/// gone: a real PCRF says 5012 to a session that it does not know.
pub const REFUSALS_MAX: u8 = 3;
