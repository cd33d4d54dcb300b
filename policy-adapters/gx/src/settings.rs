//! What the operator says about Gx: our APNs, our networks, what each gateway can do. Checked whole before
//! anything starts.

use crate::limits::{APN_LEN_MAX, FILTERS_MAX, RAR_MS, RAR_RATE_DEFAULT};
use std::collections::{BTreeMap, BTreeSet};
use tollway_diameter::Origin;
use tollway_model::SlotLength;

/// APNs of voice and emergency calls: never ours, whatever the list says.
pub const APNS_NEVER: [&str; 2] = ["ims", "sos"];

/// Whether a gateway says what became of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reports {
    /// Charging-Rule-Report for success and failure: `Active` can come.
    #[default]
    Full,
    /// A RAA is all there is: a leg stays accepted, and *unconfirmed*.
    None,
}

/// Whether a gateway keeps Rule-Activation-Time and Rule-Deactivation-Time (TS 29.212 §5.3.42, §5.3.43).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RuleTimes {
    #[default]
    Kept,
    Ignored,
}

/// A bit of a Feature-List (TS 29.229 §6.3.31).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feature {
    pub list_id: u32,
    pub bit: u8,
}

impl Feature {
    /// Extended-BW-NR (TS 29.212 §5.4.1, list 2; the bit as Magma's gateway sends it).
    pub const EXTENDED_BW_NR: Feature = Feature { list_id: 2, bit: 7 };
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gateway {
    pub reports: Reports,
    pub rule_times: RuleTimes,
    /// RARs a second; `None` is no limit.
    pub rar_rate_max: Option<u32>,
    pub rar_timeout_ms: u64,
    /// Packet filters that one rule may have there.
    pub filters_max: u8,
    /// How it offers rates above 32 bits; `None`: they are refused even if it does.
    pub extended_bw: Option<Feature>,
}

impl Default for Gateway {
    fn default() -> Gateway {
        Gateway {
            reports: Reports::Full,
            rule_times: RuleTimes::Kept,
            rar_rate_max: Some(RAR_RATE_DEFAULT),
            rar_timeout_ms: RAR_MS,
            filters_max: FILTERS_MAX,
            extended_bw: Some(Feature::EXTENDED_BW_NR),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub origin: Origin,
    /// `gx.apns`: network identifiers, without the operator's part.
    pub apns: Vec<String>,
    /// Networks that a subscriber may be in, as MCC and MNC digits; empty: not looked at.
    pub home_plmns: Vec<String>,
    /// By Origin-Host.
    pub gateways: BTreeMap<String, Gateway>,
    /// What holds for gateways that are not named.
    pub gateway: Gateway,
    pub slot_length: SlotLength,
    /// One life of our meters: another number at each start.
    pub incarnation: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("gx.apns is empty: no session could ever be taken")]
    NoApn,
    #[error("gx.apns: {0:?} is no APN: letters, digits, '-' and '.', at most 100")]
    Apn(String),
    #[error("gx.apns: {0:?} is for voice or emergency calls and is never ours")]
    ApnNever(String),
    #[error("gx.apns: {0:?} is named twice")]
    ApnTwice(String),
    #[error("home_plmns: {0:?} is no MCC and MNC: 5 or 6 digits")]
    Plmn(String),
    #[error("gateway {0}: rar_rate_max, rar_timeout_ms and filters_max must be above 0")]
    Gateway(String),
}

impl Settings {
    /// # Errors
    /// The first thing that cannot be.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.apns.is_empty() {
            return Err(SettingsError::NoApn);
        }
        let mut seen = BTreeSet::new();
        for apn in &self.apns {
            let lower = apn.to_ascii_lowercase();
            if !is_apn(&lower) {
                return Err(SettingsError::Apn(apn.clone()));
            }
            if APNS_NEVER.contains(&lower.as_str()) {
                return Err(SettingsError::ApnNever(apn.clone()));
            }
            if !seen.insert(lower) {
                return Err(SettingsError::ApnTwice(apn.clone()));
            }
        }
        if let Some(bad) = self.home_plmns.iter().find(|plmn| crate::plmn::Plmn::from_text(plmn).is_none()) {
            return Err(SettingsError::Plmn(bad.clone()));
        }
        let unnamed = ("(others)".to_owned(), &self.gateway);
        let named = self.gateways.iter().map(|(host, gateway)| (host.clone(), gateway));
        match named.chain([unnamed]).find(|(_, g)| {
            g.rar_rate_max == Some(0)
                || g.rar_timeout_ms == 0
                || g.filters_max == 0
                || g.filters_max > FILTERS_MAX
        }) {
            Some((host, _)) => Err(SettingsError::Gateway(host)),
            None => Ok(()),
        }
    }
}

fn is_apn(apn: &str) -> bool {
    let is_char = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    !apn.is_empty() && apn.len() <= APN_LEN_MAX && apn.bytes().all(is_char)
}

/// The network identifier of a Called-Station-Id, in lower case: the operator's part
/// `.mnc<n>.mcc<n>.gprs` is cut off (TS 23.003 §9.1).
pub(crate) fn network_identifier(called: &str) -> Option<String> {
    if !is_apn(called) {
        return None;
    }
    let lower = called.to_ascii_lowercase();
    let labels: Vec<&str> = lower.split('.').collect();
    let network = match labels.as_slice() {
        [network @ .., mnc, mcc, "gprs"] if mnc.starts_with("mnc") && mcc.starts_with("mcc") => network,
        all => all,
    };
    (!network.is_empty()).then(|| network.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(apns: &[&str]) -> Settings {
        Settings {
            origin: Origin { host: "pcrf.example".into(), realm: "example".into(), state_id: 1 },
            apns: apns.iter().map(|apn| (*apn).to_owned()).collect(),
            home_plmns: Vec::new(),
            gateways: BTreeMap::new(),
            gateway: Gateway::default(),
            slot_length: SlotLength::from_secs(60).unwrap(),
            incarnation: 1,
        }
    }

    #[test]
    fn bad_settings_are_named() {
        assert_eq!(settings(&["internet"]).check(), Ok(()));
        assert_eq!(settings(&[]).check(), Err(SettingsError::NoApn));
        assert_eq!(settings(&["IMS"]).check(), Err(SettingsError::ApnNever("IMS".into())));
        assert_eq!(settings(&["a b"]).check(), Err(SettingsError::Apn("a b".into())));
        assert_eq!(settings(&["a", "A"]).check(), Err(SettingsError::ApnTwice("A".into())));
        let bad = Settings { home_plmns: vec!["9997".into()], ..settings(&["a"]) };
        assert_eq!(bad.check(), Err(SettingsError::Plmn("9997".into())));
        let slow = Gateway { rar_rate_max: Some(0), ..Gateway::default() };
        let bad = Settings { gateway: slow, ..settings(&["a"]) };
        assert_eq!(bad.check(), Err(SettingsError::Gateway("(others)".into())));
    }

    #[test]
    fn the_operators_part_is_cut_off() {
        assert_eq!(network_identifier("Internet").as_deref(), Some("internet"));
        assert_eq!(network_identifier("corp.example.mnc070.mcc999.gprs").as_deref(), Some("corp.example"));
        assert_eq!(network_identifier("mnc070.mcc999.gprs"), None);
        assert_eq!(network_identifier("inter net"), None);
        assert_eq!(network_identifier(&"a".repeat(101)), None);
    }
}
