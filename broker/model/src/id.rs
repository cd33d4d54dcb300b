//! Typed ids. Inside a market an id is a small number in record order, so that replay and simulation need
//! no randomness; what the public sees is a keyed permutation of it, made at the edge.

use minicbor::{Decode, Encode};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($raw:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Default)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub $raw);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// Position of a record in a market's journal; the first record is 1.
    Seq(u64), "#"
);
id!(
    /// A paid promise for a window.
    ReservationId(u64), "r"
);
id!(
    /// A set of priced offers, valid until an instant.
    QuoteId(u64), "q"
);
id!(
    /// Who pays, numbered in the order of configuration.
    CustomerId(u32), "c"
);
id!(
    /// Where an endpoint attaches.
    AccessId(u32), "a"
);
id!(
    /// A capacity pool: the scarce thing.
    PoolId(u32), "p"
);
id!(
    /// A policy tier: what the operator sells.
    TierId(u32), "t"
);

impl Seq {
    /// The sequence after this one.
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

/// One priced alternative inside a quote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Debug)]
pub struct OfferId {
    #[n(0)]
    pub quote: QuoteId,
    #[n(1)]
    pub index: u32,
}

/// One access's part of a reservation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct LegId {
    #[n(0)]
    pub reservation: ReservationId,
    #[n(1)]
    pub index: u32,
}

impl fmt::Display for LegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.reservation, self.index)
    }
}

impl fmt::Debug for LegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
