//! Capabilities exchange (RFC 6733 §5.3): what CER and CEA say, and what follows from it.

use crate::answer::{Origin, answer_with};
use crate::avp::ietf::{
    ACCT_APPLICATION_ID, AUTH_APPLICATION_ID, ERROR_MESSAGE, FIRMWARE_REVISION, HOST_IP_ADDRESS,
    INBAND_SECURITY_ID, ORIGIN_HOST, ORIGIN_REALM, ORIGIN_STATE_ID, PRODUCT_NAME, SUPPORTED_VENDOR_ID,
    VENDOR_ID, VENDOR_SPECIFIC_APPLICATION_ID,
};
use crate::avp::{Avp, TGPP};
use crate::error::{Error, Offender, result};
use crate::limits::CAPABILITY_LIST_MAX;
use crate::message::{Message, application, command};
use crate::writer::{WriteError, Writer};
use std::net::IpAddr;

/// Applications from here on belong to vendors (RFC 6733 §11.3) and are advertised with theirs.
const VENDOR_APPLICATIONS: u32 = 0x0100_0000;
/// Inband-Security-Id: none within Diameter; TLS, if any, stands below it (RFC 6733 §6.10, §13.1).
const NO_INBAND_SECURITY: u32 = 0;

/// What we say of ourselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Local {
    pub origin: Origin,
    pub addresses: Vec<IpAddr>,
    pub product: String,
    pub firmware: u32,
    pub applications: Vec<u32>,
}

/// What a peer said of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capabilities {
    pub host: String,
    pub realm: String,
    pub product: String,
    pub vendor_id: u32,
    pub state_id: Option<u32>,
    pub applications: Vec<u32>,
    allows_no_inband_security: bool,
}

impl Local {
    fn write(&self, writer: &mut Writer) {
        for address in self.addresses.iter().take(CAPABILITY_LIST_MAX) {
            writer.address(HOST_IP_ADDRESS, *address);
        }
        writer.u32(VENDOR_ID, 0);
        writer.text(PRODUCT_NAME, &self.product);
        writer.u32(ORIGIN_STATE_ID, self.origin.state_id);
        writer.u32(SUPPORTED_VENDOR_ID, TGPP);
        for id in self.applications.iter().copied().take(CAPABILITY_LIST_MAX) {
            if id < VENDOR_APPLICATIONS || id == application::RELAY {
                writer.u32(AUTH_APPLICATION_ID, id);
            } else {
                writer.group(VENDOR_SPECIFIC_APPLICATION_ID, |w| {
                    w.u32(VENDOR_ID, TGPP);
                    w.u32(AUTH_APPLICATION_ID, id);
                });
            }
        }
        writer.u32(FIRMWARE_REVISION, self.firmware);
    }

    /// Capabilities-Exchange-Request (RFC 6733 §5.3.1).
    ///
    /// # Errors
    /// When what is configured does not fit a message.
    pub fn cer(&self) -> Result<Vec<u8>, WriteError> {
        let mut writer = Writer::request(command::CAPABILITIES_EXCHANGE, application::BASE);
        self.origin.write(&mut writer);
        self.write(&mut writer);
        writer.finish()
    }

    /// Capabilities-Exchange-Answer (RFC 6733 §5.3.2).
    ///
    /// # Errors
    /// When what is configured does not fit a message.
    pub fn cea(&self, request: &Message<'_>, code: u32, why: Option<&str>) -> Result<Vec<u8>, WriteError> {
        let mut writer = answer_with(request, &self.origin, code);
        self.write(&mut writer);
        if let Some(why) = why {
            writer.text(ERROR_MESSAGE, why);
        }
        writer.finish()
    }

    /// Applications both sides know; a relay knows all (RFC 6733 §5.3).
    pub fn common(&self, theirs: &[u32]) -> Vec<u32> {
        if theirs.contains(&application::RELAY) {
            return self.applications.clone();
        }
        self.applications.iter().copied().filter(|id| theirs.contains(id)).collect()
    }

    /// The Result-Code for a peer's capabilities (RFC 6733 §5.3).
    pub fn judge(&self, theirs: &Capabilities) -> u32 {
        if self.common(&theirs.applications).is_empty() {
            result::NO_COMMON_APPLICATION
        } else if !theirs.allows_no_inband_security {
            result::NO_COMMON_SECURITY
        } else {
            result::SUCCESS
        }
    }
}

fn name(message: &Message<'_>, avp: crate::avp::Definition) -> Result<String, Error> {
    let found = message.find(avp).ok_or(Error::Missing(Offender::absent(avp.key)))?;
    let is_good = crate::check::is_identity(found.data);
    found.text().filter(|_| is_good).map(str::to_owned).ok_or(Error::Value(found.offender()))
}

impl Capabilities {
    /// Reads a CER, or a CEA that says success.
    ///
    /// # Errors
    /// 5005, 5004: no usable name.
    pub fn read(message: &Message<'_>) -> Result<Capabilities, Error> {
        let mut applications: Vec<u32> = Vec::new();
        let mut add = |avp: Avp<'_>| {
            if let Some(id) = avp.u32().filter(|id| !applications.contains(id))
                && applications.len() < CAPABILITY_LIST_MAX
            {
                applications.push(id);
            }
        };
        for avp in message.avps() {
            if avp.key == VENDOR_SPECIFIC_APPLICATION_ID.key {
                avp.find(AUTH_APPLICATION_ID).into_iter().for_each(&mut add);
                avp.find(ACCT_APPLICATION_ID).into_iter().for_each(&mut add);
            } else if avp.key == AUTH_APPLICATION_ID.key || avp.key == ACCT_APPLICATION_ID.key {
                add(avp);
            }
        }
        let mut security = message.all(INBAND_SECURITY_ID).filter_map(|avp| avp.u32()).peekable();
        let product = message.text(PRODUCT_NAME).unwrap_or("");
        Ok(Capabilities {
            host: name(message, ORIGIN_HOST)?,
            realm: name(message, ORIGIN_REALM)?,
            product: product.chars().filter(|c| !c.is_control()).take(64).collect(),
            vendor_id: message.u32(VENDOR_ID).unwrap_or(0),
            state_id: message.u32(ORIGIN_STATE_ID),
            applications,
            allows_no_inband_security: security.peek().is_none()
                || security.any(|id| id == NO_INBAND_SECURITY),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(applications: &[u32]) -> Local {
        Local {
            origin: Origin { host: "a.example".into(), realm: "example".into(), state_id: 1 },
            addresses: vec![IpAddr::from([127, 0, 0, 1])],
            product: "tollway".into(),
            firmware: 1,
            applications: applications.to_vec(),
        }
    }

    #[test]
    fn what_is_said_is_read() {
        let gx = local(&[application::GX]);
        let bytes = gx.cer().unwrap();
        let cer = Message::parse(&bytes).unwrap();
        assert!(crate::check::request(&cer, &[]).is_ok());
        let read = Capabilities::read(&cer).unwrap();
        assert_eq!(
            (read.host.as_str(), read.state_id, read.applications.as_slice()),
            ("a.example", Some(1), &[application::GX][..])
        );
        for (applications, code) in [
            (vec![application::GX, application::RX], result::SUCCESS),
            (vec![application::RX], result::NO_COMMON_APPLICATION),
            (vec![application::RELAY], result::SUCCESS),
            (vec![], result::NO_COMMON_APPLICATION),
        ] {
            assert_eq!(gx.judge(&Capabilities { applications, ..read.clone() }), code);
        }
        let cea = gx.cea(&cer, result::SUCCESS, None).unwrap();
        let cea = Message::parse(&cea).unwrap();
        assert_eq!(crate::check::avps(&cea), Ok(()));
        assert_eq!(Capabilities::read(&cea), Ok(read));
    }

    #[test]
    fn lists_are_cut() {
        let many: Vec<u32> = (1..200).collect();
        let mut writer = Writer::request(command::CAPABILITIES_EXCHANGE, 0);
        local(&many).origin.write(&mut writer);
        many.iter().for_each(|id| writer.u32(AUTH_APPLICATION_ID, *id));
        let bytes = writer.finish().unwrap();
        let read = Capabilities::read(&Message::parse(&bytes).unwrap()).unwrap();
        assert_eq!(read.applications.len(), CAPABILITY_LIST_MAX);
    }

    #[test]
    fn tls_within_diameter_is_not_offered() {
        let gx = local(&[application::GX]);
        for (ids, code) in [(&[1][..], result::NO_COMMON_SECURITY), (&[1, 0], result::SUCCESS)] {
            let mut writer = Writer::request(command::CAPABILITIES_EXCHANGE, 0);
            gx.origin.write(&mut writer);
            gx.write(&mut writer);
            ids.iter().for_each(|id| writer.u32(INBAND_SECURITY_ID, *id));
            let bytes = writer.finish().unwrap();
            let read = Capabilities::read(&Message::parse(&bytes).unwrap()).unwrap();
            assert_eq!(gx.judge(&read), code);
        }
    }
}
