//! Money: the ledger, the price of capacity, charge lines. Pure; integers only, every operation checked.

pub mod charge;
pub mod curve;
pub mod ledger;
pub mod tariff;

pub use charge::{ChargeLine, PriceSegment, Unit};
pub use curve::Curve;
pub use ledger::{AccountId, AccountKind, Entry, EntryKind, Hold, HoldId, Ledger};
pub use tariff::Tariff;
