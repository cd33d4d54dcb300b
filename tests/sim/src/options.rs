//! What a run is asked for, and what the seed draws for it.

use crate::rng::Rng;
use std::collections::BTreeMap;
use std::fmt;

/// Steps of the part in which faults are injected.
pub const STEPS_DEFAULT: u64 = 3_000;

/// A bug that is planted in the simulation's own wrapper around the engine; production code has no switch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Bug {
    /// The gate lets every output out at once.
    ReplyBeforeCommit,
    /// A resent batch is taken for a new one, of a new counter life.
    DuplicateUsage,
    /// Admission counts only the newest of the reservations that start at one instant.
    EqualStart,
    /// A hold never expires.
    HoldNeverVoided,
    /// A rebuilt engine reads a top-up one micro-unit short.
    ReplayDiffers,
    /// The Gx adapter answers a gateway before what it answers is recorded.
    GxAnswerBeforeCommit,
    /// A removal whose release crossed an install is never sent.
    GxReleaseCrosses,
    /// A CCR-U that is sent again is taken for a new one.
    GxUsageTwice,
}

impl Bug {
    pub const ALL: [Bug; 8] = [
        Bug::ReplyBeforeCommit,
        Bug::DuplicateUsage,
        Bug::EqualStart,
        Bug::HoldNeverVoided,
        Bug::ReplayDiffers,
        Bug::GxAnswerBeforeCommit,
        Bug::GxReleaseCrosses,
        Bug::GxUsageTwice,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Bug::ReplyBeforeCommit => "reply-before-commit",
            Bug::DuplicateUsage => "duplicate-usage",
            Bug::EqualStart => "equal-start",
            Bug::HoldNeverVoided => "hold-never-voided",
            Bug::ReplayDiffers => "replay-differs",
            Bug::GxAnswerBeforeCommit => "gx-answer-before-commit",
            Bug::GxReleaseCrosses => "gx-release-crosses",
            Bug::GxUsageTwice => "gx-usage-twice",
        }
    }

    /// Whether it is planted in the adapter of a mobile gateway.
    pub const fn is_mobile(self) -> bool {
        match self {
            Bug::GxAnswerBeforeCommit | Bug::GxReleaseCrosses | Bug::GxUsageTwice => true,
            Bug::ReplyBeforeCommit
            | Bug::DuplicateUsage
            | Bug::EqualStart
            | Bug::HoldNeverVoided
            | Bug::ReplayDiffers => false,
        }
    }

    pub fn parse(name: &str) -> Option<Bug> {
        Bug::ALL.into_iter().find(|bug| bug.as_str() == name)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    pub seed: u64,
    pub steps: u64,
    pub bug: Option<Bug>,
    /// Print every step to stderr.
    pub trace: bool,
    /// A mobile gateway takes part, with a customer who buys there.
    pub mobile: bool,
}

impl Options {
    pub const fn of_seed(seed: u64) -> Options {
        Options { seed, steps: STEPS_DEFAULT, bug: None, trace: false, mobile: false }
    }

    pub const fn with_bug(self, bug: Bug) -> Options {
        Options { bug: Some(bug), ..self }
    }

    pub const fn mobile(self) -> Options {
        Options { mobile: true, ..self }
    }
}

/// Fault points and their probabilities. Swarm testing: each seed leaves about half of the faults out, so
/// that no fault hides what another one would show.
#[derive(Clone, Debug)]
pub struct Faults {
    rng: Rng,
    ppm: BTreeMap<String, u32>,
    on: bool,
}

impl Faults {
    pub fn of_seed(seed: u64) -> Faults {
        Faults { rng: Rng::stream(seed, "swarm"), ppm: BTreeMap::new(), on: true }
    }

    /// Names a fault point; its probability is zero or uniform up to `ppm_max`. Drawn from the fault's own
    /// stream, so that a new fault does not change the others.
    pub fn register(&mut self, name: &str, ppm_max: u32) {
        let mut rng = self.rng.clone();
        let mut own = Rng::stream(rng.next(), name);
        let ppm = if own.chance(500_000) { 0 } else { own.below(u64::from(ppm_max)) + 1 };
        self.ppm.insert(name.to_owned(), u32::try_from(ppm).unwrap_or(ppm_max));
    }

    /// Whether a fault happens now. None does once they have stopped.
    pub fn strikes(&self, rng: &mut Rng, name: &str) -> bool {
        let ppm = self.ppm.get(name).copied().unwrap_or(0);
        rng.chance(if self.on { ppm } else { 0 })
    }

    pub fn stop(&mut self) {
        self.on = false;
    }

    pub const fn are_on(&self) -> bool {
        self.on
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drawn: Vec<String> = self
            .ppm
            .iter()
            .filter(|(_, ppm)| **ppm > 0)
            .map(|(name, ppm)| format!("{name}={}.{}%", ppm / 10_000, ppm / 1_000 % 10))
            .collect();
        f.write_str(&drawn.join(" "))
    }
}
