//! What the operator says about Rx: who we are, which PCRFs there are and what each can do. Checked whole before
//! anything starts.

use crate::limits::{ANSWER_MS, FLOWS_MAX, PCRFS_MAX, RATE_DEFAULT, TEXT_LEN_MAX};
use std::collections::BTreeMap;
use tollway_diameter::Origin;
use tollway_model::SlotLength;

/// Whether a PCRF says what became of a session's resources.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reports {
    /// Specific-Action for success and failure: `Active` can come.
    #[default]
    Full,
    /// An AAA is all there is: a leg stays accepted, and *unconfirmed*.
    None,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pcrf {
    /// Destination-Realm.
    pub realm: String,
    /// Destination-Host of a first AAR; `None`: whoever serves the realm.
    pub host: Option<String>,
    pub reports: Reports,
    /// AAR and STR a second; `None` is no limit.
    pub rate_max: Option<u32>,
    pub timeout_ms: u64,
    /// Flows that one leg may have there.
    pub flows_max: u8,
    /// Whether it takes rates above 32 bits (TS 29.214 §4.4.10).
    pub takes_extended_bw: bool,
}

impl Pcrf {
    pub fn of_realm(realm: &str) -> Pcrf {
        Pcrf {
            realm: realm.to_owned(),
            host: None,
            reports: Reports::Full,
            rate_max: Some(RATE_DEFAULT),
            timeout_ms: ANSWER_MS,
            flows_max: FLOWS_MAX,
            takes_extended_bw: false,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub origin: Origin,
    /// By name.
    pub pcrfs: BTreeMap<String, Pcrf>,
    pub slot_length: SlotLength,
    /// One life of our meters: another number at each start.
    pub incarnation: u64,
    /// High part of Session-Ids: greater at each start than at any before, as seconds since 1970 are
    /// (RFC 6733 §8.8).
    pub session_high: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("rx.pcrfs is empty: no session could ever be asked for")]
    NoPcrf,
    #[error("rx.pcrfs: {0} PCRFs; at most 64 are taken")]
    TooMany(usize),
    #[error("rx.pcrfs: {0:?} is no name: 1 to 100 bytes")]
    Name(String),
    #[error("rx.pcrfs.{0}: realm and host must be names of Diameter: visible ASCII, at most 255 bytes")]
    Identity(String),
    #[error("rx.pcrfs.{0}: rate_max and timeout_ms must be above 0, flows_max 1 to 8")]
    Bound(String),
}

fn is_identity(name: &str) -> bool {
    let len_max = tollway_diameter::limits::IDENTITY_LEN_MAX;
    !name.is_empty() && name.len() <= len_max && name.bytes().all(|b| b.is_ascii_graphic())
}

impl Settings {
    /// # Errors
    /// The first thing that cannot be.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.pcrfs.is_empty() {
            return Err(SettingsError::NoPcrf);
        }
        if self.pcrfs.len() > PCRFS_MAX {
            return Err(SettingsError::TooMany(self.pcrfs.len()));
        }
        for (name, pcrf) in &self.pcrfs {
            if name.is_empty() || name.len() > TEXT_LEN_MAX {
                return Err(SettingsError::Name(name.clone()));
            }
            if !is_identity(&pcrf.realm) || pcrf.host.as_deref().is_some_and(|host| !is_identity(host)) {
                return Err(SettingsError::Identity(name.clone()));
            }
            let is_flows = (1..=FLOWS_MAX).contains(&pcrf.flows_max);
            if pcrf.rate_max == Some(0) || pcrf.timeout_ms == 0 || !is_flows {
                return Err(SettingsError::Bound(name.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pcrfs: impl IntoIterator<Item = (String, Pcrf)>) -> Settings {
        Settings {
            origin: Origin { host: "af.example".into(), realm: "example".into(), state_id: 1 },
            pcrfs: pcrfs.into_iter().collect(),
            slot_length: SlotLength::from_secs(60).unwrap(),
            incarnation: 1,
            session_high: 1,
        }
    }

    #[test]
    fn bad_settings_are_named() {
        let good = || Pcrf::of_realm("example");
        let named = |name: &str, pcrf| settings([(name.to_owned(), pcrf)]).check();
        assert_eq!(named("east", good()), Ok(()));
        assert_eq!(settings([]).check(), Err(SettingsError::NoPcrf));
        let many = settings((0..65).map(|n| (n.to_string(), good()))).check();
        assert_eq!(many, Err(SettingsError::TooMany(65)));
        assert_eq!(named("", good()), Err(SettingsError::Name(String::new())));
        let identity = Err(SettingsError::Identity("east".into()));
        assert_eq!(named("east", Pcrf::of_realm("a b")), identity);
        assert_eq!(named("east", Pcrf { host: Some(String::new()), ..good() }), identity);
        for bad in [
            Pcrf { rate_max: Some(0), ..good() },
            Pcrf { timeout_ms: 0, ..good() },
            Pcrf { flows_max: 0, ..good() },
            Pcrf { flows_max: 9, ..good() },
        ] {
            assert_eq!(named("east", bad), Err(SettingsError::Bound("east".into())));
        }
    }
}
