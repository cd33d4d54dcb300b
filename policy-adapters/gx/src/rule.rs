//! Paid rules: their names, what a tier says about them, and how they are written.

use crate::filter;
use crate::profile::Standing;
use crate::qos::{self, QosClass, QosError, Rates};
use tollway_diameter::Writer;
use tollway_diameter::avp::ietf::{
    CC_INPUT_OCTETS, CC_OUTPUT_OCTETS, GRANTED_SERVICE_UNIT, RATING_GROUP, SERVICE_IDENTIFIER,
};
use tollway_diameter::avp::tgpp::{
    CHARGING_RULE_BASE_NAME, CHARGING_RULE_DEFINITION, CHARGING_RULE_INSTALL, CHARGING_RULE_NAME,
    CHARGING_RULE_REMOVE, FLOW_STATUS, METERING_METHOD, MONITORING_KEY, OFFLINE, ONLINE, PRECEDENCE,
    REPORTING_LEVEL, RESOURCE_ALLOCATION_NOTIFICATION, RULE_ACTIVATION_TIME, RULE_DEACTIVATION_TIME,
    USAGE_MONITORING_INFORMATION, USAGE_MONITORING_LEVEL,
};
use tollway_model::{Direction, Flow, LegId, ReservationId, Timestamp};
use tollway_policy::{GxTerms, Metering};

/// `tw-<reservation>-<leg>`: unique in its session, and our key (TS 29.212 §5.3.6). It names the rule's
/// monitoring key too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RuleName(pub LegId);

impl std::fmt::Display for RuleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tw-{}-{}", self.0.reservation.0, self.0.index)
    }
}

impl RuleName {
    /// Reads a name that is written exactly as ours are.
    pub fn parse(name: &[u8]) -> Option<RuleName> {
        let text = std::str::from_utf8(name).ok()?;
        let (reservation, index) = text.strip_prefix("tw-")?.split_once('-')?;
        let leg = LegId { reservation: ReservationId(reservation.parse().ok()?), index: index.parse().ok()? };
        let name = RuleName(leg);
        (name.to_string() == text).then_some(name)
    }
}

/// What the tier says about its rules. Rating group and charging keep the operator's own charging from taking
/// the same bytes from the subscriber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    pub class: QosClass,
    /// Lower is looked at first (TS 29.212 §5.3.11).
    pub precedence: u32,
    pub rating_group: u32,
    pub service_identifier: Option<u32>,
    pub metering: Metering,
    pub online: bool,
    pub offline: bool,
    /// The MBR is never below this, so that excess is carried where the tier lets it borrow.
    pub mbr_bps_min: u64,
    /// Usage is reported after so many bytes; `None`: no usage monitoring.
    pub usage_bytes: Option<u64>,
}

impl Terms {
    /// # Errors
    /// A class or a priority level that is not ours to ask for.
    pub fn of(terms: &GxTerms) -> Result<Terms, QosError> {
        Ok(Terms {
            class: QosClass::new(terms.qci, terms.priority_level, terms.allow_priority.as_deref())?,
            precedence: terms.precedence,
            rating_group: terms.rating_group,
            service_identifier: terms.service_identifier,
            metering: terms.metering,
            online: terms.online,
            offline: terms.offline,
            mbr_bps_min: terms.mbr_bps_min,
            usage_bytes: terms.usage_bytes,
        })
    }
}

/// What is to hold at the gateway for a leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    pub attempt: u32,
    pub rates: Rates,
    pub activation: Option<Timestamp>,
}

/// All that a rule is written from.
pub(crate) struct Rule<'a> {
    pub name: RuleName,
    pub terms: &'a Terms,
    pub flows: &'a [Flow],
    pub direction: Direction,
    pub borrow: bool,
    pub shape: Shape,
    pub deactivation: Timestamp,
    pub notify: bool,
}

impl Rule<'_> {
    pub(crate) fn max_rates(&self) -> Rates {
        max_rates(self.terms, self.shape.rates, self.borrow)
    }

    /// Charging-Rule-Install with one definition: its times are its own (TS 29.212 §5.3.2, §5.3.4).
    pub(crate) fn write(&self, writer: &mut Writer) {
        let name = self.name.to_string();
        let (terms, shape) = (self.terms, &self.shape);
        writer.group(CHARGING_RULE_INSTALL, |w| {
            w.group(CHARGING_RULE_DEFINITION, |w| {
                w.text(CHARGING_RULE_NAME, &name);
                if let Some(service) = terms.service_identifier {
                    w.u32(SERVICE_IDENTIFIER, service);
                }
                w.u32(RATING_GROUP, terms.rating_group);
                filter::write(w, self.flows);
                w.u32(FLOW_STATUS, FLOW_ENABLED);
                qos::write_rule(w, terms.class, shape.rates, self.max_rates());
                // Per service only where a service is named (TS 29.212 §5.3.12).
                w.u32(REPORTING_LEVEL, u32::from(terms.service_identifier.is_none()));
                w.u32(ONLINE, u32::from(terms.online));
                w.u32(OFFLINE, u32::from(terms.offline));
                w.u32(METERING_METHOD, metering(terms.metering));
                w.u32(PRECEDENCE, terms.precedence);
                if terms.usage_bytes.is_some() {
                    w.text(MONITORING_KEY, &name);
                }
            });
            if self.notify {
                w.u32(RESOURCE_ALLOCATION_NOTIFICATION, ENABLE_NOTIFICATION);
            }
            if let Some(at) = shape.activation {
                w.time(RULE_ACTIVATION_TIME, at.ms() / 1_000);
            }
            w.time(RULE_DEACTIVATION_TIME, self.deactivation.ms().div_ceil(1_000));
        });
    }

    /// Usage-Monitoring-Information: a threshold in the direction that is sold (TS 29.212 §4.5.17.2).
    pub(crate) fn write_monitoring(&self, writer: &mut Writer) {
        if let Some(bytes) = self.terms.usage_bytes {
            write_monitoring(writer, self.name, self.direction, bytes);
        }
    }
}

/// Flow-Status ENABLED (TS 29.214 §5.3.11).
const FLOW_ENABLED: u32 = 2;
/// ENABLE_NOTIFICATION (TS 29.212 §5.3.50).
const ENABLE_NOTIFICATION: u32 = 0;
/// PCC_RULE_LEVEL (TS 29.212 §5.3.61).
const PCC_RULE_LEVEL: u32 = 1;

const fn metering(method: Metering) -> u32 {
    match method {
        Metering::Duration => 0,
        Metering::Volume => 1,
        Metering::DurationVolume => 2,
    }
}

pub(crate) fn max_rates(terms: &Terms, rates: Rates, borrow: bool) -> Rates {
    if borrow { rates.at_least(terms.mbr_bps_min) } else { rates }
}

pub(crate) fn write_monitoring(writer: &mut Writer, name: RuleName, direction: Direction, bytes: u64) {
    writer.group(USAGE_MONITORING_INFORMATION, |w| {
        w.text(MONITORING_KEY, &name.to_string());
        w.group(GRANTED_SERVICE_UNIT, |w| match direction {
            Direction::Up => w.u64(CC_INPUT_OCTETS, bytes),
            Direction::Down => w.u64(CC_OUTPUT_OCTETS, bytes),
        });
        w.u32(USAGE_MONITORING_LEVEL, PCC_RULE_LEVEL);
    });
}

/// Charging-Rule-Remove (TS 29.212 §5.3.3).
pub(crate) fn write_removal(writer: &mut Writer, names: &[RuleName]) {
    if !names.is_empty() {
        writer.group(CHARGING_RULE_REMOVE, |w| {
            names.iter().for_each(|name| w.text(CHARGING_RULE_NAME, &name.to_string()));
        });
    }
}

/// The standing rules of a profile, in one Charging-Rule-Install.
pub(crate) fn write_standing(writer: &mut Writer, rules: &[Standing]) {
    if rules.is_empty() {
        return;
    }
    writer.group(CHARGING_RULE_INSTALL, |w| {
        for rule in rules {
            match rule {
                Standing::Predefined(name) => w.text(CHARGING_RULE_NAME, name),
                Standing::Base(name) => w.text(CHARGING_RULE_BASE_NAME, name),
                Standing::Any { name, rating_group } => w.group(CHARGING_RULE_DEFINITION, |w| {
                    w.text(CHARGING_RULE_NAME, name);
                    w.u32(RATING_GROUP, *rating_group);
                    filter::write_any(w);
                    w.u32(FLOW_STATUS, FLOW_ENABLED);
                    // Below every paid rule.
                    w.u32(PRECEDENCE, u32::from(u16::MAX));
                }),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_only_as_written() {
        let leg = LegId { reservation: ReservationId(77), index: 2 };
        assert_eq!(RuleName(leg).to_string(), "tw-77-2");
        assert_eq!(RuleName::parse(b"tw-77-2"), Some(RuleName(leg)));
        for other in [
            "tw-077-2",
            "tw-77",
            "tw-77-2-3",
            "tw--1",
            "tw-77-+2",
            "TW-77-2",
            "r0",
            "tw-99999999999999999999-0",
        ] {
            assert_eq!(RuleName::parse(other.as_bytes()), None, "{other}");
        }
        assert_eq!(RuleName::parse(&[0xff]), None);
    }
}
