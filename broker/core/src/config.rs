//! What the operator sells and to whom: pools, tiers, accesses, customers. Configuration enters as an input
//! and becomes records; the engine reads no file.

use minicbor::{Decode, Encode};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tollway_billing::{Tariff, Unit};
use tollway_model::{AccessId, BitsPerSecond, Currency, CustomerId, Direction, PoolId, TierId};
use tollway_policy::{ClassShape, GxTerms, RxTerms, SubscriberRef};

/// A capacity pool: the scarce thing. Rates are class rates.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct PoolDef {
    #[n(0)]
    pub name: String,
    #[n(1)]
    pub up: BitsPerSecond,
    #[n(2)]
    pub down: BitsPerSecond,
    /// Share that is ever sold; the rest is everyone else's floor.
    #[n(3)]
    pub sell_share_ppm: u32,
    /// Share of what is on sale in a slot that one customer's unconfirmed holds may take, beyond its first.
    #[n(4)]
    pub hold_share_ppm: u32,
}

impl PoolDef {
    pub fn capacity(&self, direction: Direction) -> BitsPerSecond {
        match direction {
            Direction::Up => self.up,
            Direction::Down => self.down,
        }
    }

    pub fn on_sale(&self, direction: Direction) -> BitsPerSecond {
        self.capacity(direction).share_ppm(self.sell_share_ppm)
    }
}

/// What kind of promise a tier is. The word *guaranteed* appears nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
#[cbor(index_only)]
pub enum TierKind {
    /// A wire we shape: a number and a refund.
    #[n(0)]
    Assured,
    /// Radio, or a peer without reports: a floor asked for.
    #[n(1)]
    Target,
    /// Left-overs, no floor.
    #[n(2)]
    Background,
}

impl TierKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            TierKind::Assured => "assured",
            TierKind::Target => "target",
            TierKind::Background => "background",
        }
    }
}

/// On what a tier stands under Regulation (EU) 2015/2120 art. 3.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub enum LegalBasis {
    #[n(0)]
    Specialised {
        #[n(0)]
        why: String,
    },
    #[n(1)]
    SubscriberChoice,
    #[n(2)]
    PrivateNetwork,
    #[n(3)]
    OutsideEu,
}

impl LegalBasis {
    pub const fn as_str(&self) -> &'static str {
        match self {
            LegalBasis::Specialised { .. } => "specialised",
            LegalBasis::SubscriberChoice => "subscriber_choice",
            LegalBasis::PrivateNetwork => "private_network",
            LegalBasis::OutsideEu => "outside_eu",
        }
    }
}

/// What a kept slot is paid by.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
#[cbor(index_only)]
pub enum ChargeBy {
    /// Promised rate × kept seconds, used or not.
    #[n(0)]
    Reserved,
    /// min(delivered, promised) bytes per slot.
    #[n(1)]
    Delivered,
}

impl ChargeBy {
    pub const fn unit(self) -> Unit {
        match self {
            ChargeBy::Reserved => Unit::MbpsHour,
            ChargeBy::Delivered => Unit::Gb,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            ChargeBy::Reserved => "reserved",
            ChargeBy::Delivered => "delivered",
        }
    }
}

/// What the operator sells.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct TierDef {
    #[n(0)]
    pub name: String,
    #[n(1)]
    pub kind: TierKind,
    #[n(2)]
    pub legal_basis: LegalBasis,
    #[n(3)]
    pub shape: ClassShape,
    /// What a bytes offer adds to payload for headers and start-up.
    #[n(4)]
    pub overhead_ppm: u32,
    #[n(5)]
    pub gap_s_max: u32,
    #[n(6)]
    pub start_grace_s: u32,
    #[n(7)]
    pub unseen_free_s: u32,
    #[n(8)]
    pub rate_offers: ChargeBy,
    #[n(9)]
    pub bytes_offers: ChargeBy,
    #[n(10)]
    pub rate_min: BitsPerSecond,
    #[n(11)]
    pub rate_max: BitsPerSecond,
    /// A confirmed reservation may be cancelled free of charge until this long before its start.
    #[n(12)]
    pub notice_s: u32,
    #[n(13)]
    pub cancel_fee_ppm: u32,
    #[n(14)]
    pub tariff: Tariff,
    /// How its rules look at a gateway; present: it is sold on learnt accesses.
    #[n(15)]
    pub gx: Option<GxTerms>,
    /// How its media look at an existing PCRF; present: it is sold there.
    #[n(16)]
    pub rx: Option<RxTerms>,
    /// Whether time is paid for in which a peer that never says more has accepted the leg.
    #[n(17)]
    #[cbor(skip_if = "is_false")]
    pub charge_unconfirmed: bool,
}

pub(crate) fn is_false(flag: &bool) -> bool {
    !*flag
}

impl TierDef {
    /// Whether it says what a road needs to know. At ports nothing more is needed; a tier for a road is sold on
    /// that road only.
    pub fn fits(&self, road: Option<&RoadDef>) -> bool {
        match road {
            None => self.gx.is_none() && self.rx.is_none(),
            Some(RoadDef::Gx { .. }) => self.gx.is_some(),
            Some(RoadDef::Rx { .. }) => self.rx.is_some(),
        }
    }
}

/// Where one direction of an access is enforced and which pools it uses, nearest first.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct SideDef {
    #[n(0)]
    pub port: String,
    #[n(1)]
    pub pools: Vec<String>,
}

/// By what else than the ports of an agent an access is enforced.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub enum RoadDef {
    /// A *family*: each subscriber with a session at this APN is an access of its own, `NAME/NUMBER`.
    #[n(0)]
    Gx {
        /// In lower case, without the operator's part.
        #[n(0)]
        apn: String,
    },
    /// Subscribers behind an existing PCRF.
    #[n(1)]
    Rx {
        #[n(0)]
        apn: Option<String>,
    },
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct AccessDef {
    #[n(0)]
    pub name: String,
    #[n(1)]
    pub enforcement_point: String,
    #[n(2)]
    pub up: SideDef,
    #[n(3)]
    pub down: SideDef,
    /// The pool whose utilisation prices this access; one of its pools in both directions.
    #[n(4)]
    pub price_pool: String,
    /// Reference to the line's owner; who that is lies outside the journal.
    #[n(5)]
    pub subscriber: String,
    /// Absent: the ports of an agent.
    #[n(6)]
    pub road: Option<RoadDef>,
}

impl AccessDef {
    pub fn side(&self, direction: Direction) -> &SideDef {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// The APN of a family of learnt accesses.
    pub fn apn(&self) -> Option<&str> {
        match self.road.as_ref()? {
            RoadDef::Gx { apn } => Some(apn),
            RoadDef::Rx { .. } => None,
        }
    }
}

/// The name of a learnt access.
pub fn line_name(family: &str, subscriber: SubscriberRef) -> String {
    format!("{family}/{}", subscriber.0)
}

/// Splits the name of a learnt access; a number has one spelling.
pub fn parse_line(name: &str) -> Option<(&str, SubscriberRef)> {
    let (family, number) = name.rsplit_once('/')?;
    let subscriber = SubscriberRef(number.parse().ok()?);
    (subscriber.0.to_string() == number).then_some((family, subscriber))
}

/// The family of a name that stands for every line of it.
pub fn parse_every(name: &str) -> Option<&str> {
    name.strip_suffix("/*")
}

/// An address prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    pub address: IpAddr,
    pub length: u8,
}

impl Prefix {
    /// `None` when the length is too long for the family or host bits are set.
    pub fn new(address: IpAddr, length: u8) -> Option<Prefix> {
        let prefix = Prefix { address, length };
        let width = if address.is_ipv4() { 32 } else { 128 };
        (length <= width && prefix.masked(address) == prefix.bits(address)).then_some(prefix)
    }

    pub fn contains(&self, other: IpAddr) -> bool {
        self.address.is_ipv4() == other.is_ipv4() && self.masked(other) == self.masked(self.address)
    }

    fn bits(&self, ip: IpAddr) -> u128 {
        match ip {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        }
    }

    fn masked(&self, ip: IpAddr) -> u128 {
        let width: u32 = if self.address.is_ipv4() { 32 } else { 128 };
        let drop = width.saturating_sub(u32::from(self.length));
        let bits = self.bits(ip);
        if drop >= 128 { 0 } else { bits >> drop << drop }
    }
}

impl std::str::FromStr for Prefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Prefix, Self::Err> {
        let (address, length) = text.split_once('/').ok_or("write a prefix as ADDRESS/LENGTH")?;
        let address: IpAddr = address.parse().map_err(|_| "the address of a prefix is IPv4 or IPv6")?;
        let length: u8 = length.parse().map_err(|_| "the length of a prefix is a number")?;
        Prefix::new(address, length).ok_or("the prefix has host bits set or is too long")
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl<C> Encode<C> for Prefix {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.to_string())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Prefix {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?.parse().map_err(minicbor::decode::Error::message)
    }
}

/// Endpoints of one access that a customer may name.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct EndpointDef {
    /// An access, a line of a family (`internet/17`) or all of them (`internet/*`).
    #[n(0)]
    pub access: String,
    /// On a learnt access they may be empty: its session says what the device's address is.
    #[n(1)]
    pub addresses: Vec<Prefix>,
}

impl EndpointDef {
    pub fn covers(&self, access: &AccessDef, subscriber: Option<SubscriberRef>) -> bool {
        match subscriber {
            None => self.access == access.name,
            Some(subscriber) => {
                parse_every(&self.access) == Some(&access.name)
                    || parse_line(&self.access) == Some((&access.name, subscriber))
            }
        }
    }

    /// The configured access that it names a part of, or the whole.
    pub fn configured<'a>(
        &'a self,
        by_name: &BTreeMap<&str, &'a AccessDef>,
    ) -> Result<&'a AccessDef, String> {
        let name = self.access.as_str();
        let family = parse_every(name).or_else(|| parse_line(name).map(|(family, _)| family));
        let family = family.and_then(|family| by_name.get(family)).filter(|def| def.apn().is_some());
        match (by_name.get(name), family) {
            (Some(def), _) if def.apn().is_some() => {
                Err(format!("access {name} is a family: write {name}/* or {name}/NUMBER of a subscriber"))
            }
            (Some(def), _) | (None, Some(def)) => Ok(def),
            (None, None) => Err(format!("there is no access {name}")),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct CustomerDef {
    #[n(0)]
    pub name: String,
    #[n(1)]
    pub currency: Currency,
    #[n(2)]
    pub endpoints: Vec<EndpointDef>,
}

/// The whole configuration of a market, as a file says it.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug, Default)]
pub struct ConfigDef {
    #[n(0)]
    pub pools: Vec<PoolDef>,
    #[n(1)]
    pub tiers: Vec<TierDef>,
    #[n(2)]
    pub accesses: Vec<AccessDef>,
    #[n(3)]
    pub customers: Vec<CustomerDef>,
}

/// One item of the difference between two revisions.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub enum Change {
    #[n(0)]
    Pool(#[n(0)] PoolId, #[n(1)] PoolDef),
    #[n(1)]
    PoolRemoved(#[n(0)] PoolId),
    /// A new revision of a tier; older ones stay readable for what was sold under them.
    #[n(2)]
    Tier(#[n(0)] TierId, #[n(1)] u32, #[n(2)] TierDef),
    #[n(3)]
    TierWithdrawn(#[n(0)] TierId),
    #[n(4)]
    Access(#[n(0)] AccessId, #[n(1)] AccessDef),
    #[n(5)]
    AccessRemoved(#[n(0)] AccessId),
    #[n(6)]
    Customer(#[n(0)] CustomerId, #[n(1)] CustomerDef),
    #[n(7)]
    CustomerRemoved(#[n(0)] CustomerId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_hold_what_they_say() {
        let prefix: Prefix = "10.10.0.0/24".parse().unwrap();
        assert!(prefix.contains("10.10.0.7".parse().unwrap()));
        assert!(!prefix.contains("10.10.1.7".parse().unwrap()));
        assert!(!prefix.contains("::1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Prefix>().unwrap().contains("9.9.9.9".parse().unwrap()));
        assert!("::/0".parse::<Prefix>().unwrap().contains("fe80::1".parse().unwrap()));
        for bad in ["10.10.0.1/24", "10.0.0.0/33", "10.0.0.0", "x/8", "10.0.0.0/-1"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }
}
