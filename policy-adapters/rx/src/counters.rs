//! Figures for the operator. Each counts occurrences since the start.

/// What happened how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// AF sessions that a first AAR was made for, and that are no more.
    pub opened: u64,
    pub closed: u64,
    /// AAR and STR sent, and their answers by what they said.
    pub requests: u64,
    pub accepted: u64,
    pub refused: u64,
    /// TOO_BUSY and UNABLE_TO_DELIVER.
    pub busy: u64,
    pub unanswered: u64,
    /// AAA 5002.
    pub session_unknown: u64,
    /// Answers to what was given up.
    pub late: u64,
    /// STRs that were refused until the session was counted as gone.
    pub given_up: u64,
    /// RAR and ASR taken, and those of sessions that are none.
    pub reported: u64,
    pub aborted: u64,
    pub reported_unknown: u64,
    /// Sessions named like ours that nobody has; they are ended.
    pub strays: u64,
    /// Usage that had come before and was not counted again.
    pub duplicates: u64,
    /// Usage without a direction: counted as sold, return path included.
    pub usage_undirected: u64,
    /// Specific-Actions that nothing follows from.
    pub actions_other: u64,
    /// First AAAs that do not name a feature that we rely on.
    pub features_missing: u64,
    /// Requests and answers that could not be taken.
    pub malformed: u64,
    /// Messages of ours that could not be written.
    pub unwritable: u64,
}
