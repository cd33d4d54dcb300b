//! Every bound of the crate with its reason. Times are milliseconds.

/// Sessions of all gateways together: at 1 KB each a gigabyte, which is what one market may cost.
pub const SESSIONS_MAX: usize = 1_000_000;
/// Gateways by Origin-Host; the Diameter node remembers as many origins.
pub const HOSTS_MAX: usize = 4_096;
/// Legs that one session may carry: a bearer has few filters, and a subscriber with more open promises is a fault.
pub const LEGS_PER_SESSION_MAX: usize = 64;
/// Rules in one RAR. Open5GS takes 8 a message (`OGS_MAX_NUM_OF_PCC_RULE`) and fails the message beyond.
pub const RULES_PER_RAR_MAX: usize = 8;
/// Packet filters of one rule: 8 flows in two directions. A gateway may have fewer places (Open5GS: 15).
pub const FILTERS_MAX: u8 = 16;
/// Subscription-Id in one CCR: a real one has two (IMSI, E.164).
pub const SUBSCRIPTION_IDS_MAX: usize = 8;
/// Charging-Rule-Report in one message, and names in all of them together: one a rule of the session.
pub const RULE_REPORTS_MAX: usize = 64;
/// Usage-Monitoring-Information in one message: one a rule of the session.
pub const USAGE_REPORTS_MAX: usize = 64;
/// Supported-Features in one CCR: two lists of 3GPP are defined on Gx.
pub const FEATURES_MAX: usize = 8;
/// Event-Trigger in one CCR; fewer than 60 are defined.
pub const TRIGGERS_MAX: usize = 64;
/// A Session-Id: an identity, three numbers and a word of the gateway's (RFC 6733 §8.8).
pub const SESSION_ID_LEN_MAX: usize = 512;
/// An APN (TS 23.003 §9.1).
pub const APN_LEN_MAX: usize = 100;
/// Standing rules of one subscriber; they travel in one CCA with everything else.
pub const STANDING_RULES_MAX: usize = 8;
/// Characters of a rule name that we did not choose.
pub const RULE_NAME_LEN_MAX: usize = 100;

/// RARs a second to one gateway, if its setting does not say: far below what makes one sweat.
pub const RAR_RATE_DEFAULT: u32 = 200;
/// Unused sending time that may be caught up at once: a twentieth of a second's share.
pub const RAR_BURST_MS: u64 = 50;
/// RARs to one gateway without an answer: a quarter of what the Diameter node holds for a peer.
pub const IN_FLIGHT_MAX: usize = 4_096;
/// For a RAA, if the gateway's setting does not say. The Diameter node fails over within it.
pub const RAR_MS: u64 = 5_000;
/// Pause of a gateway after TOO_BUSY, and of a session after no answer: doubled each time.
pub const BACK_OFF_MS_MIN: u64 = 1_000;
pub const BACK_OFF_MS_MAX: u64 = 32_000;
/// Until a rule that the gateway took away is asked for again: doubled each time.
pub const REPAIR_MS_MIN: u64 = 10_000;
pub const REPAIR_MS_MAX: u64 = 300_000;
/// How early a rule is sent with Rule-Activation-Time.
pub const AHEAD_MS: u64 = 600_000;
/// For the CCR-U with the last usage of a rule that is gone (TS 29.212 §4.5.17.5).
pub const LAST_USAGE_MS: u64 = 5_000;
/// After Rule-Deactivation-Time, which has whole seconds, the gateway's clock may be this late.
pub const DEACTIVATION_SLACK_MS: u64 = 2_000;
/// CC-Request-Numbers below the highest that are still told apart: one bit each.
pub const NUMBERS_WINDOW: u32 = 64;
