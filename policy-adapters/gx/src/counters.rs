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

impl Counters {
    /// All of them by name.
    pub fn each(&self) -> [(&'static str, u64); 21] {
        [
            ("opened", self.opened),
            ("apn_refused", self.apn_refused),
            ("voice_apn_refused", self.voice_apn_refused),
            ("plmn_refused", self.plmn_refused),
            ("subscriber_unknown", self.subscriber_unknown),
            ("sessions_full", self.sessions_full),
            ("superseded", self.superseded),
            ("duplicates", self.duplicates),
            ("session_unknown", self.session_unknown),
            ("malformed", self.malformed),
            ("moved_out", self.moved_out),
            ("pushes", self.pushes),
            ("push_accepted", self.push_accepted),
            ("push_refused", self.push_refused),
            ("push_busy", self.push_busy),
            ("push_unanswered", self.push_unanswered),
            ("push_session_unknown", self.push_session_unknown),
            ("push_late", self.push_late),
            ("strays", self.strays),
            ("usage_undirected", self.usage_undirected),
            ("unwritable", self.unwritable),
        ]
    }
}
