//! Writes what we say: CCA (TS 29.212 §5.6.3) and RAR (§5.6.4).

use crate::ccr::{Ccr, Fault, Features};
use crate::profile::SubscriberProfile;
use crate::qos;
use crate::rule::{self, Rule, RuleName, write_standing};
use crate::settings::{Gateway, Reports};
use tollway_diameter::avp::ietf::{
    AUTH_APPLICATION_ID, CC_REQUEST_NUMBER, CC_REQUEST_TYPE, DESTINATION_HOST, DESTINATION_REALM,
    ERROR_MESSAGE, FAILED_AVP, ORIGIN_STATE_ID, RE_AUTH_REQUEST_TYPE, SESSION_ID, VENDOR_ID,
};
use tollway_diameter::avp::tgpp::{EVENT_TRIGGER, FEATURE_LIST, FEATURE_LIST_ID, SUPPORTED_FEATURES};
use tollway_diameter::avp::{Definition, TGPP};
use tollway_diameter::{Origin, WriteError, Writer, answer, application, command, result};
use tollway_model::Direction;
use tollway_policy::SessionName;

/// Event-Trigger (TS 29.212 §5.3.7): PLMN_CHANGE, LOSS_OF_BEARER, RECOVERY_OF_BEARER,
/// SUCCESSFUL_RESOURCE_ALLOCATION, USAGE_REPORT.
const TRIGGERS: [u32; 5] = [4, 5, 6, 22, 33];
/// Those that a gateway without rule reports can act on.
const TRIGGERS_WITHOUT_REPORTS: [u32; 2] = [4, 33];
/// AUTHORIZE_ONLY (RFC 6733 §8.12).
const AUTHORIZE_ONLY: u32 = 0;

/// What a CCA of either kind starts with.
fn start(ccr: &Ccr<'_>, origin: &Origin) -> Writer {
    let mut writer = answer::answer_with(&ccr.message, origin, result::SUCCESS);
    finish_head(&mut writer, ccr, origin);
    writer
}

fn finish_head(writer: &mut Writer, ccr: &Ccr<'_>, origin: &Origin) {
    writer.u32(ORIGIN_STATE_ID, origin.state_id);
    writer.u32(AUTH_APPLICATION_ID, application::GX);
    for avp in [CC_REQUEST_TYPE, CC_REQUEST_NUMBER] {
        if let Some(found) = ccr.message.find(avp) {
            writer.copy(&found);
        }
    }
}

/// CCA-I: default bearer, APN-AMBR, standing rules, the features both have, and what to report.
pub(crate) fn initial(
    ccr: &Ccr<'_>,
    origin: &Origin,
    features: Features,
    gateway: &Gateway,
    profile: &SubscriberProfile,
) -> Result<Vec<u8>, WriteError> {
    let mut w = start(ccr, origin);
    for (id, list) in features.common(gateway.extended_bw) {
        w.group(SUPPORTED_FEATURES, |w| {
            w.u32(VENDOR_ID, TGPP);
            w.u32(FEATURE_LIST_ID, id);
            w.u32(FEATURE_LIST, list);
        });
    }
    let triggers: &[u32] = match gateway.reports {
        Reports::Full => &TRIGGERS,
        Reports::None => &TRIGGERS_WITHOUT_REPORTS,
    };
    triggers.iter().for_each(|trigger| w.u32(EVENT_TRIGGER, *trigger));
    write_standing(&mut w, &profile.standing);
    let has_extended = gateway.extended_bw.is_some_and(|feature| features.has(feature));
    qos::write_ambr(&mut w, profile.ambr.capped(has_extended));
    profile.default_qos.write_default(&mut w);
    w.finish()
}

/// A threshold to go on with.
pub(crate) struct Grant {
    pub name: RuleName,
    pub direction: Direction,
    pub bytes: u64,
}

/// CCA-U and CCA-T: rules that must not be there are removed, usage monitoring goes on.
pub(crate) fn update(
    ccr: &Ccr<'_>,
    origin: &Origin,
    strays: &[RuleName],
    grants: &[Grant],
) -> Result<Vec<u8>, WriteError> {
    let mut w = start(ccr, origin);
    rule::write_removal(&mut w, strays);
    for grant in grants {
        rule::write_monitoring(&mut w, grant.name, grant.direction, grant.bytes);
    }
    w.finish()
}

/// A CCA that refuses, with the AVP to blame over a value of zeros (RFC 6733 §7.5).
pub(crate) fn refusal(ccr: &Ccr<'_>, origin: &Origin, fault: &Fault) -> Result<Vec<u8>, WriteError> {
    let mut w = answer::answer(&ccr.message, origin, fault.outcome);
    finish_head(&mut w, ccr, origin);
    write_fault(&mut w, ccr.message.find_failed(fault), fault);
    w.finish()
}

pub(crate) fn write_fault(writer: &mut Writer, found: Option<tollway_diameter::Avp<'_>>, fault: &Fault) {
    writer.text(ERROR_MESSAGE, fault.why);
    let Some(failed) = fault.failed else { return };
    writer.group(FAILED_AVP, |w| match found {
        Some(avp) if avp.data.len() <= tollway_diameter::limits::FAILED_AVP_LEN_MAX => w.copy(&avp),
        Some(_) | None => {
            let (least, _) = failed.kind.len_range();
            w.raw(failed.key, failed.flags(), &[0; 8][..least.min(8)]);
        }
    });
}

/// The AVP that a fault blames, as it came.
pub(crate) trait FindFailed<'a> {
    fn find_failed(&self, fault: &Fault) -> Option<tollway_diameter::Avp<'a>>;
}

impl<'a> FindFailed<'a> for tollway_diameter::Message<'a> {
    fn find_failed(&self, fault: &Fault) -> Option<tollway_diameter::Avp<'a>> {
        fault.failed.and_then(|failed: Definition| self.find(failed))
    }
}

/// RAR: to the gateway that opened the session, over whatever way (RFC 6733 §6.1).
pub(crate) fn push(
    origin: &Origin,
    session: &SessionName,
    removals: &[RuleName],
    installs: &[Rule<'_>],
) -> Result<Vec<u8>, WriteError> {
    let mut w = Writer::request(command::RE_AUTH, application::GX);
    w.text(SESSION_ID, &session.session_id);
    w.u32(AUTH_APPLICATION_ID, application::GX);
    origin.write(&mut w);
    w.text(DESTINATION_REALM, &session.origin_realm);
    w.text(DESTINATION_HOST, &session.origin_host);
    w.u32(RE_AUTH_REQUEST_TYPE, AUTHORIZE_ONLY);
    w.u32(ORIGIN_STATE_ID, origin.state_id);
    rule::write_removal(&mut w, removals);
    installs.iter().for_each(|rule| rule.write(&mut w));
    installs.iter().for_each(|rule| rule.write_monitoring(&mut w));
    w.finish()
}
