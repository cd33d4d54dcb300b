//! Rates on Rx: how they are asked for, and what a PCRF would accept instead.

use crate::limits::COMPONENTS_OFFERED_MAX;
use crate::terms::{Floor, Terms};
use tollway_diameter::avp::tgpp::{
    ACCEPTABLE_SERVICE_INFO, EXTENDED_MAX_REQUESTED_BW_DL, EXTENDED_MAX_REQUESTED_BW_UL,
    EXTENDED_MIN_REQUESTED_BW_DL, EXTENDED_MIN_REQUESTED_BW_UL, MAX_REQUESTED_BANDWIDTH_DL,
    MAX_REQUESTED_BANDWIDTH_UL, MEDIA_COMPONENT_DESCRIPTION, MIN_REQUESTED_BANDWIDTH_DL,
    MIN_REQUESTED_BANDWIDTH_UL,
};
use tollway_diameter::avp::{Avp, Definition};
use tollway_diameter::{Message, Writer};

/// IP bits per second in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rates {
    pub up_bps: u64,
    pub down_bps: u64,
}

impl Rates {
    pub(crate) fn is_zero(self) -> bool {
        self == Rates::default()
    }

    fn at_least(self, bps: u64) -> Rates {
        Rates { up_bps: self.up_bps.max(bps), down_bps: self.down_bps.max(bps) }
    }

    fn at_most(self, other: Rates) -> Rates {
        Rates { up_bps: self.up_bps.min(other.up_bps), down_bps: self.down_bps.min(other.down_bps) }
    }

    /// Whether the numbers can be said to this PCRF (TS 29.214 §4.4.10).
    pub(crate) fn fits(self, takes_extended: bool) -> bool {
        let most = if takes_extended { u64::from(u32::MAX) * 1_000 } else { u64::from(u32::MAX) };
        self.up_bps.max(self.down_bps) <= most
    }
}

/// The rates that are asked for as the most.
pub(crate) fn max_rates(terms: &Terms, rates: Rates, borrow: bool) -> Rates {
    if borrow { rates.at_least(terms.max_bps_min) } else { rates }
}

/// A rate in bit/s; above 32 bits the old AVP says the most it can and the new one says it in kbit/s, rounded up
/// (TS 29.214 §4.4.10). Whether the PCRF takes that was checked before ([`Rates::fits`]).
fn write_rate(writer: &mut Writer, plain: Definition, extended: Definition, bps: u64) {
    match u32::try_from(bps) {
        Ok(bps) => writer.u32(plain, bps),
        Err(_) => {
            writer.u32(plain, u32::MAX);
            writer.u32_of(extended, bps.div_ceil(1_000));
        }
    }
}

/// Max-Requested-Bandwidth (TS 29.214 §5.3.14, §5.3.15), and Min-Requested-Bandwidth (§5.3.32, §5.3.33) where a
/// floor is sold.
pub(crate) fn write(writer: &mut Writer, terms: &Terms, rates: Rates, borrow: bool) {
    let max = max_rates(terms, rates, borrow);
    write_rate(writer, MAX_REQUESTED_BANDWIDTH_UL, EXTENDED_MAX_REQUESTED_BW_UL, max.up_bps);
    write_rate(writer, MAX_REQUESTED_BANDWIDTH_DL, EXTENDED_MAX_REQUESTED_BW_DL, max.down_bps);
    match terms.floor {
        Floor::None => {}
        Floor::Sold => {
            write_rate(writer, MIN_REQUESTED_BANDWIDTH_UL, EXTENDED_MIN_REQUESTED_BW_UL, rates.up_bps);
            write_rate(writer, MIN_REQUESTED_BANDWIDTH_DL, EXTENDED_MIN_REQUESTED_BW_DL, rates.down_bps);
        }
    }
}

/// What one group says; a direction that it leaves out is accepted as it was asked for.
fn read_group(group: &Avp<'_>, asked: Rates) -> Option<Rates> {
    let rate = |plain: Definition, extended: Definition| {
        let plain = group.find(plain).and_then(|avp| avp.u32());
        let extended = group.find(extended).and_then(|avp| avp.u32());
        match (plain, extended) {
            (_, Some(kbps)) => Some(u64::from(kbps) * 1_000),
            (Some(bps), None) => Some(u64::from(bps)),
            (None, None) => None,
        }
    };
    let up = rate(MAX_REQUESTED_BANDWIDTH_UL, EXTENDED_MAX_REQUESTED_BW_UL);
    let down = rate(MAX_REQUESTED_BANDWIDTH_DL, EXTENDED_MAX_REQUESTED_BW_DL);
    (up.is_some() || down.is_some())
        .then(|| Rates { up_bps: up.unwrap_or(asked.up_bps), down_bps: down.unwrap_or(asked.down_bps) })
}

/// Acceptable-Service-Info of an AAA (TS 29.214 §5.3.24): for the session, or the least of its components, since
/// each of them was asked for the whole rate. Never more than was asked for.
pub(crate) fn acceptable(message: &Message<'_>, asked: Rates) -> Option<Rates> {
    let info = message.find(ACCEPTABLE_SERVICE_INFO)?;
    let components = info
        .children()
        .filter(|avp| avp.key == MEDIA_COMPONENT_DESCRIPTION.key)
        .take(COMPONENTS_OFFERED_MAX)
        .filter_map(|component| read_group(&component, asked));
    let offered = read_group(&info, asked).into_iter().chain(components).reduce(Rates::at_most)?;
    Some(offered.at_most(asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::MediaType;
    use tollway_diameter::{application, command};

    fn terms(floor: Floor, max_bps_min: u64) -> Terms {
        Terms {
            media_type: MediaType::Data,
            application: None,
            floor,
            max_bps_min,
            sponsor: None,
            usage_bytes: None,
        }
    }

    /// `(plain, extended)` of the downlink maximum and minimum.
    fn written(terms: &Terms, bps: u64, borrow: bool) -> [(Option<u32>, Option<u32>); 2] {
        let mut w = Writer::request(command::AA, application::RX);
        w.group(MEDIA_COMPONENT_DESCRIPTION, |w| {
            write(w, terms, Rates { up_bps: 1, down_bps: bps }, borrow);
        });
        let bytes = w.finish().unwrap();
        let group = Message::parse(&bytes).unwrap().find(MEDIA_COMPONENT_DESCRIPTION).unwrap();
        let get = |avp: Definition| group.find(avp).and_then(|avp| avp.u32());
        [
            (get(MAX_REQUESTED_BANDWIDTH_DL), get(EXTENDED_MAX_REQUESTED_BW_DL)),
            (get(MIN_REQUESTED_BANDWIDTH_DL), get(EXTENDED_MIN_REQUESTED_BW_DL)),
        ]
    }

    #[test]
    fn wide_rates_are_extended_and_never_wrapped() {
        for (bps, plain, extended) in [
            (1, 1, None),
            (4_294_967_295, u32::MAX, None),
            (4_294_967_296, u32::MAX, Some(4_294_968)),
            (10_000_000_001, u32::MAX, Some(10_000_001)),
        ] {
            let sold = (Some(plain), extended);
            assert_eq!(written(&terms(Floor::Sold, 0), bps, false), [sold; 2], "{bps}");
            let rates = Rates { up_bps: 1, down_bps: bps };
            assert_eq!((rates.fits(false), rates.fits(true)), (extended.is_none(), true));
        }
        assert!(!Rates { up_bps: u64::MAX, down_bps: 0 }.fits(true));
    }

    #[test]
    fn excess_raises_the_maximum_and_no_floor_is_said_unless_sold() {
        let no = (None, None);
        assert_eq!(written(&terms(Floor::None, 9_000), 5, true), [(Some(9_000), None), no]);
        assert_eq!(written(&terms(Floor::None, 9_000), 5, false), [(Some(5), None), no]);
        assert_eq!(written(&terms(Floor::Sold, 9_000), 5, true), [(Some(9_000), None), (Some(5), None)]);
    }

    #[test]
    fn what_is_acceptable_is_read_from_session_and_components() {
        let asked = Rates { up_bps: 1_000, down_bps: 9_000 };
        let read = |fill: &dyn Fn(&mut Writer)| {
            let mut w = Writer::request(command::AA, application::RX);
            fill(&mut w);
            let bytes = w.finish().unwrap();
            acceptable(&Message::parse(&bytes).unwrap(), asked).map(|r| (r.up_bps, r.down_bps))
        };
        let component = |w: &mut Writer, down| {
            w.group(MEDIA_COMPONENT_DESCRIPTION, |w| w.u32(MAX_REQUESTED_BANDWIDTH_DL, down));
        };
        assert_eq!(read(&|_| ()), None);
        assert_eq!(read(&|w| w.group(ACCEPTABLE_SERVICE_INFO, |_| ())), None);
        assert_eq!(
            read(&|w| w.group(ACCEPTABLE_SERVICE_INFO, |w| {
                w.u32(MAX_REQUESTED_BANDWIDTH_DL, 4_000);
                w.u32(MAX_REQUESTED_BANDWIDTH_UL, 500);
            })),
            Some((500, 4_000))
        );
        assert_eq!(
            read(&|w| w.group(ACCEPTABLE_SERVICE_INFO, |w| {
                component(w, 7_000);
                component(w, 3_000);
            })),
            Some((1_000, 3_000))
        );
        // Only so many components are looked at.
        assert_eq!(
            read(&|w| w.group(ACCEPTABLE_SERVICE_INFO, |w| {
                (0..COMPONENTS_OFFERED_MAX).for_each(|_| component(w, 3_000));
                component(w, 1);
            })),
            Some((1_000, 3_000))
        );
        // More than was asked for is no offer of more.
        assert_eq!(
            read(&|w| w.group(ACCEPTABLE_SERVICE_INFO, |w| {
                w.u32(MAX_REQUESTED_BANDWIDTH_DL, u32::MAX);
                w.u32(EXTENDED_MAX_REQUESTED_BW_DL, 5_000_000);
            })),
            Some((1_000, 9_000))
        );
    }
}
