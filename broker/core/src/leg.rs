//! A leg: what the enforcement point does for a reservation, and how far that can have come.

use minicbor::{Decode, Encode};
use tollway_model::Timestamp;

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub enum LegState {
    #[n(0)]
    Absent,
    #[n(1)]
    Sent,
    #[n(2)]
    Accepted,
    #[n(3)]
    Active,
    #[n(4)]
    Removing,
    /// Was active and is not.
    #[n(5)]
    Lost,
    /// The device said no; it is asked again until the tier's grace is over.
    #[n(6)]
    Refused,
    /// Accepted by a peer that never says whether it is in force: the most that will be known.
    #[n(7)]
    Unconfirmed,
}

impl LegState {
    pub const fn as_str(&self) -> &'static str {
        match self {
            LegState::Absent => "absent",
            LegState::Sent => "sent",
            LegState::Accepted => "accepted",
            LegState::Active => "active",
            LegState::Removing => "removing",
            LegState::Lost => "lost",
            LegState::Refused => "refused",
            LegState::Unconfirmed => "unconfirmed",
        }
    }

    /// In force, as far as anyone will ever say.
    pub const fn is_in_force(&self) -> bool {
        matches!(self, LegState::Active | LegState::Unconfirmed)
    }
}

/// How far a leg can have come, at most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reach {
    /// No enforcement point can know of it: none was connected since it is wanted.
    Untold,
    /// An enforcement point may have been told, and may have made it so; nothing says that it did.
    Unheard,
    /// An enforcement point said that it took it, or metered it.
    Accepted,
    /// It was in force, or unconfirmed where a peer never says more.
    Active,
}

/// Two of these were a boolean once, "was active"; they are still written so, and what reads as false may
/// have been told.
mod reach {
    use super::Reach;
    use minicbor::data::Type;
    use minicbor::{Decoder, Encoder};

    pub fn encode<C, W: minicbor::encode::Write>(
        reach: &Reach,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match reach {
            Reach::Unheard => e.bool(false)?,
            Reach::Active => e.bool(true)?,
            Reach::Untold => e.u8(0)?,
            Reach::Accepted => e.u8(1)?,
        };
        Ok(())
    }

    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Reach, minicbor::decode::Error> {
        if d.datatype()? == Type::Bool {
            return Ok(if d.bool()? { Reach::Active } else { Reach::Unheard });
        }
        let at = d.position();
        match d.u8()? {
            0 => Ok(Reach::Untold),
            1 => Ok(Reach::Accepted),
            other => Err(minicbor::decode::Error::message(format!("no reach of a leg is {other}")).at(at)),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Leg {
    #[n(0)]
    pub state: LegState,
    #[n(1)]
    pub attempt: u32,
    /// Since when it is in this state.
    #[n(2)]
    pub since: Timestamp,
    /// Why, for `Lost` and `Refused`, for what is asked for again, and for what nobody was told of.
    #[n(3)]
    pub reason: Option<String>,
    #[cbor(n(4), with = "reach")]
    pub reach: Reach,
}

impl Leg {
    pub fn was_active(&self) -> bool {
        self.reach == Reach::Active
    }

    /// Nobody was told of it, or the last that was heard was no.
    pub fn was_surely_never_in_force(&self) -> bool {
        match self.reach {
            Reach::Untold => true,
            Reach::Unheard => self.state == LegState::Refused,
            Reach::Accepted | Reach::Active => false,
        }
    }

    /// Something came from the enforcement point that says so much.
    pub(crate) fn reached(&mut self, reach: Reach) {
        self.reach = self.reach.max(reach);
    }
}
