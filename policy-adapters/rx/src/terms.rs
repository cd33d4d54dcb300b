//! What a tier says about its sessions at a PCRF.

use crate::limits::TEXT_LEN_MAX;

/// Media-Type (TS 29.214 §5.3.19): with the application the PCRF chooses the QoS class by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MediaType {
    Audio,
    Video,
    Data,
    Application,
    Control,
    Text,
    Message,
    Other,
}

impl MediaType {
    pub const ALL: [MediaType; 8] = [
        MediaType::Audio,
        MediaType::Video,
        MediaType::Data,
        MediaType::Application,
        MediaType::Control,
        MediaType::Text,
        MediaType::Message,
        MediaType::Other,
    ];

    pub const fn code(self) -> u32 {
        match self {
            MediaType::Audio => 0,
            MediaType::Video => 1,
            MediaType::Data => 2,
            MediaType::Application => 3,
            MediaType::Control => 4,
            MediaType::Text => 5,
            MediaType::Message => 6,
            MediaType::Other => u32::MAX,
        }
    }

    pub fn from_code(code: u32) -> Option<MediaType> {
        MediaType::ALL.into_iter().find(|media| media.code() == code)
    }
}

/// Whether the sold rate is asked for as a least rate too (Min-Requested-Bandwidth, TS 29.214 §5.3.32, §5.3.33).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Floor {
    None,
    Sold,
}

/// Who pays in place of the subscriber (TS 29.214 §5.3.27): the app, where that is agreed with the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sponsor {
    /// Sponsor-Identity (§5.3.28).
    pub sponsor: String,
    /// Application-Service-Provider-Identity (§5.3.29).
    pub provider: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    pub media_type: MediaType,
    /// AF-Application-Identifier (TS 29.214 §5.3.5).
    pub application: Option<String>,
    pub floor: Floor,
    /// Where the tier lets excess through, the requested maximum is never below this.
    pub max_bps_min: u64,
    pub sponsor: Option<Sponsor>,
    /// Usage is reported after so many bytes; needs a sponsor, since only sponsored usage is reported on Rx.
    pub usage_bytes: Option<u64>,
}

impl Terms {
    /// What of it cannot be asked for.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let is_text = |text: &str| !text.is_empty() && text.len() <= TEXT_LEN_MAX;
        if self.application.as_deref().is_some_and(|text| !is_text(text)) {
            return Some("the tier's application has no name, or one of more than 100 bytes");
        }
        match &self.sponsor {
            Some(sponsor) if !is_text(&sponsor.sponsor) || !is_text(&sponsor.provider) => {
                Some("the tier's sponsor or provider has no name, or one of more than 100 bytes")
            }
            None if self.usage_bytes.is_some() => {
                Some("the tier wants usage reports without a sponsor: on Rx only sponsored usage is reported")
            }
            Some(_) if self.usage_bytes == Some(0) => Some("the tier wants usage reports after 0 bytes"),
            Some(_) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_for_is_named() {
        let sponsor = || Sponsor { sponsor: "shop".into(), provider: "peers".into() };
        let good = Terms {
            media_type: MediaType::Data,
            application: Some("sync".into()),
            floor: Floor::Sold,
            max_bps_min: 0,
            sponsor: Some(sponsor()),
            usage_bytes: Some(1),
        };
        assert_eq!(good.fault(), None);
        let long = || "a".repeat(TEXT_LEN_MAX + 1);
        for bad in [
            Terms { application: Some(String::new()), ..good.clone() },
            Terms { application: Some(long()), ..good.clone() },
            Terms { sponsor: Some(Sponsor { sponsor: long(), ..sponsor() }), ..good.clone() },
            Terms { sponsor: Some(Sponsor { provider: String::new(), ..sponsor() }), ..good.clone() },
            Terms { sponsor: None, ..good.clone() },
            Terms { usage_bytes: Some(0), ..good.clone() },
        ] {
            assert!(bad.fault().is_some(), "{bad:?}");
        }
    }

    #[test]
    fn media_types_are_read_as_written() {
        assert!(MediaType::ALL.iter().all(|media| MediaType::from_code(media.code()) == Some(*media)));
        assert_eq!(MediaType::from_code(7), None);
    }
}
