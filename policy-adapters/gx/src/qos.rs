//! QCI, ARP and rates, and how they are written (TS 29.212 §5.3.16, §5.3.32, §4.5.30).

use tollway_diameter::Writer;
use tollway_diameter::avp::Definition;
use tollway_diameter::avp::tgpp::{
    ALLOCATION_RETENTION_PRIORITY, APN_AGGREGATE_MAX_BITRATE_DL, APN_AGGREGATE_MAX_BITRATE_UL,
    DEFAULT_EPS_BEARER_QOS, EXTENDED_APN_AMBR_DL, EXTENDED_APN_AMBR_UL, EXTENDED_GBR_DL, EXTENDED_GBR_UL,
    EXTENDED_MAX_REQUESTED_BW_DL, EXTENDED_MAX_REQUESTED_BW_UL, GUARANTEED_BITRATE_DL, GUARANTEED_BITRATE_UL,
    MAX_REQUESTED_BANDWIDTH_DL, MAX_REQUESTED_BANDWIDTH_UL, PRE_EMPTION_CAPABILITY,
    PRE_EMPTION_VULNERABILITY, PRIORITY_LEVEL, QOS_CLASS_IDENTIFIER, QOS_INFORMATION,
};

/// Classes of voice, signalling and mission-critical services (TS 23.203 table 6.1.7).
const QCI_PRIORITY: [u8; 6] = [1, 5, 65, 66, 69, 70];
/// Classes with a guaranteed bit rate (TS 23.203 table 6.1.7, Release 15).
const QCI_GBR: [u8; 18] = [1, 2, 3, 4, 65, 66, 67, 71, 72, 73, 74, 75, 76, 82, 83, 84, 85, 86];
/// Levels 1 to 8 are for prioritised services inside the operator's domain (TS 29.212 §5.3.45).
const PRIORITY_LEVELS: std::ops::RangeInclusive<u8> = 9..=15;
const DISABLED_CAPABILITY: u32 = 1;
const ENABLED_VULNERABILITY: u32 = 0;

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QosError {
    #[error("QCI {0} is none")]
    Qci(u8),
    #[error("QCI {0} is for prioritised services; it needs allow_priority with a reason")]
    QciPriority(u8),
    #[error("QCI {0} has a guaranteed bit rate; a default bearer has none")]
    QciDefault(u8),
    #[error("ARP priority level {0}; only 9 to 15 may be used (TS 29.212 §5.3.45)")]
    PriorityLevel(u8),
}

/// A class and its ARP priority level, as far as we may ask for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QosClass {
    qci: u8,
    priority_level: u8,
}

impl QosClass {
    /// # Errors
    /// A QCI that is none or for prioritised services, a priority level that is not ours.
    pub fn new(qci: u8, priority_level: u8, allow_priority: Option<&str>) -> Result<QosClass, QosError> {
        let has_reason = allow_priority.is_some_and(|reason| !reason.trim().is_empty());
        match qci {
            0 | 255 => Err(QosError::Qci(qci)),
            _ if QCI_PRIORITY.contains(&qci) && !has_reason => Err(QosError::QciPriority(qci)),
            _ if !PRIORITY_LEVELS.contains(&priority_level) => Err(QosError::PriorityLevel(priority_level)),
            _ => Ok(QosClass { qci, priority_level }),
        }
    }

    /// For a default bearer.
    ///
    /// # Errors
    /// As [`QosClass::new`], and a class with a guaranteed bit rate.
    pub fn for_default(qci: u8, priority_level: u8, allow: Option<&str>) -> Result<QosClass, QosError> {
        let class = QosClass::new(qci, priority_level, allow)?;
        if class.is_gbr() { Err(QosError::QciDefault(qci)) } else { Ok(class) }
    }

    pub fn is_gbr(self) -> bool {
        QCI_GBR.contains(&self.qci)
    }

    /// The ARP in full: what is left out has defaults that mean the opposite (TS 29.212 §5.3.46, §5.3.47).
    fn write(self, writer: &mut Writer) {
        writer.u32(QOS_CLASS_IDENTIFIER, u32::from(self.qci));
        writer.group(ALLOCATION_RETENTION_PRIORITY, |w| {
            w.u32(PRIORITY_LEVEL, u32::from(self.priority_level));
            w.u32(PRE_EMPTION_CAPABILITY, DISABLED_CAPABILITY);
            w.u32(PRE_EMPTION_VULNERABILITY, ENABLED_VULNERABILITY);
        });
    }

    /// Default-EPS-Bearer-QoS (TS 29.212 §5.3.48).
    pub(crate) fn write_default(self, writer: &mut Writer) {
        writer.group(DEFAULT_EPS_BEARER_QOS, |w| self.write(w));
    }
}

/// IP bits per second in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rates {
    pub up_bps: u64,
    pub down_bps: u64,
}

impl Rates {
    pub const fn is_zero(self) -> bool {
        self.up_bps == 0 && self.down_bps == 0
    }

    fn max_bps(self) -> u64 {
        self.up_bps.max(self.down_bps)
    }

    pub(crate) fn at_least(self, bps: u64) -> Rates {
        Rates { up_bps: self.up_bps.max(bps), down_bps: self.down_bps.max(bps) }
    }

    /// What can be said of an upper limit: without the wide AVPs it is what 32 bits hold.
    pub(crate) fn capped(self, has_extended: bool) -> Rates {
        if has_extended {
            return self;
        }
        let cap = |bps: u64| bps.min(u64::from(u32::MAX));
        Rates { up_bps: cap(self.up_bps), down_bps: cap(self.down_bps) }
    }

    /// Whether the numbers can be said to this gateway (TS 29.212 §4.5.30).
    pub(crate) fn fits(self, has_extended: bool) -> bool {
        let most = if has_extended { u64::from(u32::MAX) * 1_000 } else { u64::from(u32::MAX) };
        self.max_bps() <= most
    }
}

/// A rate in bit/s; above 32 bits the old AVP says the most it can and the new one says it in kbit/s, rounded up
/// (TS 29.212 §4.5.30). Whether that was negotiated is checked before ([`Rates::fits`]).
fn write_rate(writer: &mut Writer, plain: Definition, extended: Definition, bps: u64) {
    match u32::try_from(bps) {
        Ok(bps) => writer.u32(plain, bps),
        Err(_) => {
            writer.u32(plain, u32::MAX);
            writer.u32_of(extended, bps.div_ceil(1_000));
        }
    }
}

/// QoS-Information of a rule (TS 29.212 §5.3.16): the rate as GBR where the class has one, and as MBR.
pub(crate) fn write_rule(writer: &mut Writer, class: QosClass, rate: Rates, max: Rates) {
    writer.group(QOS_INFORMATION, |w| {
        write_rate(w, MAX_REQUESTED_BANDWIDTH_UL, EXTENDED_MAX_REQUESTED_BW_UL, max.up_bps);
        write_rate(w, MAX_REQUESTED_BANDWIDTH_DL, EXTENDED_MAX_REQUESTED_BW_DL, max.down_bps);
        if class.is_gbr() {
            write_rate(w, GUARANTEED_BITRATE_UL, EXTENDED_GBR_UL, rate.up_bps);
            write_rate(w, GUARANTEED_BITRATE_DL, EXTENDED_GBR_DL, rate.down_bps);
        }
        class.write(w);
    });
}

/// QoS-Information of a session: its APN-AMBR (TS 29.212 §5.3.39, §5.3.40).
pub(crate) fn write_ambr(writer: &mut Writer, ambr: Rates) {
    writer.group(QOS_INFORMATION, |w| {
        write_rate(w, APN_AGGREGATE_MAX_BITRATE_UL, EXTENDED_APN_AMBR_UL, ambr.up_bps);
        write_rate(w, APN_AGGREGATE_MAX_BITRATE_DL, EXTENDED_APN_AMBR_DL, ambr.down_bps);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollway_diameter::{Message, application, command};

    #[test]
    fn only_our_classes_and_levels() {
        for qci in QCI_PRIORITY {
            assert_eq!(QosClass::new(qci, 9, None), Err(QosError::QciPriority(qci)));
            assert_eq!(QosClass::new(qci, 9, Some(" ")), Err(QosError::QciPriority(qci)));
            assert!(QosClass::new(qci, 9, Some("mine rescue, contract 7")).is_ok());
        }
        for level in [0, 1, 8, 16, 255] {
            assert_eq!(QosClass::new(4, level, Some("why")), Err(QosError::PriorityLevel(level)));
        }
        assert_eq!(QosClass::new(0, 9, None), Err(QosError::Qci(0)));
        assert_eq!(QosClass::for_default(4, 9, None), Err(QosError::QciDefault(4)));
        assert!(QosClass::for_default(9, 15, None).is_ok());
    }

    /// `(plain, extended)` of the downlink MBR and GBR.
    fn written(bps: u64) -> [(Option<u32>, Option<u32>); 2] {
        let mut w = Writer::request(command::RE_AUTH, application::GX);
        let rate = Rates { up_bps: 0, down_bps: bps };
        write_rule(&mut w, QosClass::new(4, 9, None).unwrap(), rate, rate);
        let bytes = w.finish().unwrap();
        let qos = Message::parse(&bytes).unwrap().find(QOS_INFORMATION).unwrap();
        let get = |avp: Definition| qos.find(avp).and_then(|avp| avp.u32());
        [
            (get(MAX_REQUESTED_BANDWIDTH_DL), get(EXTENDED_MAX_REQUESTED_BW_DL)),
            (get(GUARANTEED_BITRATE_DL), get(EXTENDED_GBR_DL)),
        ]
    }

    #[test]
    fn wide_rates_are_extended_and_never_wrapped() {
        for (bps, plain, extended) in [
            (0, 0, None),
            (4_294_967_295, u32::MAX, None),
            (4_294_967_296, u32::MAX, Some(4_294_968)),
            (10_000_000_001, u32::MAX, Some(10_000_001)),
        ] {
            assert_eq!(written(bps), [(Some(plain), extended); 2], "{bps}");
            let rates = Rates { up_bps: 1, down_bps: bps };
            assert_eq!((rates.fits(false), rates.fits(true)), (extended.is_none(), true));
        }
        assert!(!Rates { up_bps: u64::MAX, down_bps: 0 }.fits(true));
    }
}
