//! The road of a leg: by which kind of enforcement it is made so, and what that kind needs to know beyond rates
//! and flows. A leg without a road is enforced at the ports of an agent.

use minicbor::{Decode, Encode};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The operator's number for a subscriber: what records carry in place of an identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Debug)]
#[cbor(transparent)]
pub struct SubscriberRef(#[n(0)] pub u64);

/// A subscriber at an APN, over whatever session he has there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Debug)]
pub struct MobileAccess {
    #[n(0)]
    pub subscriber: SubscriberRef,
    /// In lower case, without the operator's part.
    #[n(1)]
    pub apn: String,
}

/// Metering-Method (TS 29.212 §5.3.8).
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
#[cbor(index_only)]
pub enum Metering {
    #[n(0)]
    Duration,
    #[n(1)]
    Volume,
    #[n(2)]
    DurationVolume,
}

/// What a tier says about its rules at a gateway (TS 29.212 §5.3.4). Checked by the edge before it becomes
/// configuration.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct GxTerms {
    /// QoS-Class-Identifier (§5.3.17).
    #[n(0)]
    pub qci: u8,
    /// Priority-Level of the ARP (§5.3.45): 9 to 15.
    #[n(1)]
    pub priority_level: u8,
    /// Why a QCI for prioritised services is allowed; absent: it is not.
    #[n(2)]
    pub allow_priority: Option<String>,
    /// Lower is looked at first (§5.3.11).
    #[n(3)]
    pub precedence: u32,
    /// Rating-Group (RFC 8506 §8.29).
    #[n(4)]
    pub rating_group: u32,
    /// Service-Identifier (RFC 8506 §8.28).
    #[n(5)]
    pub service_identifier: Option<u32>,
    #[n(6)]
    pub metering: Metering,
    #[n(7)]
    pub online: bool,
    #[n(8)]
    pub offline: bool,
    /// The MBR is never below this, in bit/s.
    #[n(9)]
    pub mbr_bps_min: u64,
    /// Usage is reported after so many bytes; absent: no usage monitoring.
    #[n(10)]
    pub usage_bytes: Option<u64>,
}

/// What a tier says about its media at an existing PCRF (TS 29.214 §5.3.16).
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct RxTerms {
    /// Media-Type (§5.3.19): 0 audio, 1 video, 2 data, 3 application.
    #[n(0)]
    pub media_type: u32,
    /// AF-Application-Identifier (§5.3.5).
    #[n(1)]
    pub application: Option<String>,
    /// Sponsor and application service provider (§5.3.28), where sponsoring is agreed: the app pays.
    #[n(2)]
    pub sponsor: Option<Sponsor>,
    /// Usage is reported after so many bytes; needs a sponsor.
    #[n(3)]
    pub usage_bytes: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Sponsor {
    /// Sponsor-Identity (TS 29.214 §5.3.36).
    #[n(0)]
    pub sponsor: String,
    /// Application-Service-Provider-Identity (TS 29.214 §5.3.35).
    #[n(1)]
    pub provider: String,
}

/// What a leg needs beyond its rates and flows.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub enum Road {
    /// A rule at the gateway that holds the subscriber's session.
    #[n(0)]
    Gx {
        #[n(0)]
        access: MobileAccess,
        #[n(1)]
        terms: GxTerms,
        /// What the engine knows: after a restart of ours the rule may be in force.
        #[n(2)]
        is_active: bool,
    },
    /// A session at an existing PCRF.
    #[n(1)]
    Rx {
        /// Called-Station-Id, where the PCRF needs it to find the subscriber.
        #[n(0)]
        apn: Option<String>,
        #[n(1)]
        terms: RxTerms,
        #[n(2)]
        is_active: bool,
    },
}

/// A Gx session by its names on the wire: no socket in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Debug)]
pub struct SessionName {
    #[n(0)]
    pub session_id: String,
    #[n(1)]
    pub origin_host: String,
    #[n(2)]
    pub origin_realm: String,
}

/// What a subscriber's device is reached at; at least one of both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DeviceAddress {
    pub v4: Option<Ipv4Addr>,
    /// Prefix and its length.
    pub v6: Option<(Ipv6Addr, u8)>,
}

impl DeviceAddress {
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        match address {
            std::net::IpAddr::V4(v4) => self.v4 == Some(v4),
            std::net::IpAddr::V6(v6) => self.v6.is_some_and(|(prefix, length)| {
                let shift = 128 - u32::from(length.min(128));
                let bits = |ip: Ipv6Addr| u128::from(ip).checked_shr(shift).unwrap_or(0);
                bits(prefix) == bits(v6)
            }),
        }
    }
}

impl std::fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.v4, self.v6) {
            (Some(v4), None) => write!(f, "{v4}"),
            (None, Some((prefix, length))) => write!(f, "{prefix}/{length}"),
            (Some(v4), Some((prefix, length))) => write!(f, "{v4} {prefix}/{length}"),
            (None, None) => f.write_str("no address"),
        }
    }
}

impl<C> Encode<C> for DeviceAddress {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let v4 = self.v4.map(u32::from);
        let v6 = self.v6.map(|(prefix, length)| (u128::from(prefix).to_be_bytes(), length));
        e.array(3)?.encode(v4)?;
        match v6 {
            Some((bits, length)) => e.bytes(&bits)?.u8(length)?,
            None => e.null()?.null()?,
        };
        e.ok()
    }
}

impl<'b, C> Decode<'b, C> for DeviceAddress {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        if d.array()? != Some(3) {
            return Err(minicbor::decode::Error::message("a device address has three parts"));
        }
        let v4 = d.decode::<Option<u32>>()?.map(Ipv4Addr::from);
        if d.datatype()? == minicbor::data::Type::Null {
            d.null()?;
            d.null()?;
            return Ok(DeviceAddress { v4, v6: None });
        }
        let bits: [u8; 16] = d
            .bytes()?
            .try_into()
            .map_err(|_| minicbor::decode::Error::message("an IPv6 prefix has 16 bytes"))?;
        Ok(DeviceAddress { v4, v6: Some((Ipv6Addr::from(bits), d.u8()?)) })
    }
}

/// A session that a gateway has opened: where a subscriber is to be found. What is known of it after a restart
/// is this and nothing else.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Session {
    #[n(0)]
    pub name: SessionName,
    #[n(1)]
    pub access: MobileAccess,
    #[n(2)]
    pub address: DeviceAddress,
    /// The highest CC-Request-Number that had an effect.
    #[n(3)]
    pub number: u32,
    /// Rates above 32 bits were negotiated.
    #[n(4)]
    pub has_extended: bool,
    /// The subscriber is in a network that is not ours.
    #[n(5)]
    pub is_away: bool,
}

/// What happened to a learnt access.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub enum SessionReport {
    /// A session was opened, or the same one has another number or place.
    #[n(0)]
    Open(#[n(0)] Session),
    #[n(1)]
    Closed {
        #[n(0)]
        name: SessionName,
        #[n(1)]
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_addresses_survive_their_encoding_and_hold_what_they_say() {
        let v4 = Some("10.1.2.3".parse().unwrap());
        let v6 = Some(("2001:db8:1::".parse().unwrap(), 64));
        for address in
            [DeviceAddress { v4, v6: None }, DeviceAddress { v4: None, v6 }, DeviceAddress { v4, v6 }]
        {
            let bytes = minicbor::to_vec(address).unwrap();
            assert_eq!(minicbor::decode::<DeviceAddress>(&bytes).unwrap(), address);
        }
        let both = DeviceAddress { v4, v6 };
        assert!(both.contains("10.1.2.3".parse().unwrap()));
        assert!(!both.contains("10.1.2.4".parse().unwrap()));
        assert!(both.contains("2001:db8:1::7".parse().unwrap()));
        assert!(!both.contains("2001:db8:1:1::7".parse().unwrap()));
        assert_eq!(both.to_string(), "10.1.2.3 2001:db8:1::/64");
    }
}
