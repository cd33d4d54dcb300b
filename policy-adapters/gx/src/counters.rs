//! Figures for the operator. Each counts occurrences since the start.

/// What happened how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// CCR-I that opened a session.
    pub opened: u64,
    /// CCR-I for an APN that is not ours.
    pub apn_refused: u64,
    /// CCR-I for `ims` or `sos`: the gateway's routing sends us voice or emergency calls.
    pub voice_apn_refused: u64,
    /// CCR-I from a network that is none of ours, or of which nothing was said.
    pub plmn_refused: u64,
    /// CCR-I of a subscriber without profile.
    pub subscriber_unknown: u64,
    /// CCR-I beyond the bound of sessions or gateways.
    pub sessions_full: u64,
    /// Sessions that a newer CCR-I ended.
    pub superseded: u64,
    /// Requests that had come before and had no second effect.
    pub duplicates: u64,
    /// CCR-U and CCR-T of sessions that are none.
    pub session_unknown: u64,
    /// Requests and answers that could not be taken.
    pub malformed: u64,
    /// Subscribers who left our networks in a session.
    pub moved_out: u64,
    /// RAR sent, and RAA by what they said.
    pub pushes: u64,
    pub push_accepted: u64,
    pub push_refused: u64,
    pub push_busy: u64,
    pub push_unanswered: u64,
    /// RAA 5002.
    pub push_session_unknown: u64,
    /// RAA of a RAR that was given up, or whose session ended meanwhile.
    pub push_late: u64,
    /// Rules named like ours that nobody wants; they are removed.
    pub strays: u64,
    /// Usage without a direction: counted as sold, return path included.
    pub usage_undirected: u64,
    /// Messages of ours that could not be written.
    pub unwritable: u64,
}
