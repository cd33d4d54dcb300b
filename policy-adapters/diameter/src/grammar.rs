//! Commands and which AVPs their requests must, may and must not have, as data. The answers' grammars are not
//! here: an answer that lacks something is judged by whoever asked.

use crate::avp::ietf::{
    AUTH_APPLICATION_ID, AUTH_SESSION_STATE, CC_REQUEST_NUMBER, CC_REQUEST_TYPE, DESTINATION_HOST,
    DESTINATION_REALM, DISCONNECT_CAUSE, FIRMWARE_REVISION, HOST_IP_ADDRESS, ORIGIN_HOST, ORIGIN_REALM,
    ORIGIN_STATE_ID, PRODUCT_NAME, RE_AUTH_REQUEST_TYPE, SESSION_ID, TERMINATION_CAUSE, VENDOR_ID,
};
use crate::avp::tgpp::{ABORT_CAUSE, SESSION_RELEASE_CAUSE};
use crate::avp::{Definition, Key};
use crate::message::{application, command};

/// How often an AVP may stand at the top of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    pub key: Key,
    pub min: u8,
    pub max: u8,
}

const fn once(avp: Definition) -> Rule {
    Rule { key: avp.key, min: 1, max: 1 }
}

const fn optional(avp: Definition) -> Rule {
    Rule { key: avp.key, min: 0, max: 1 }
}

const fn some(avp: Definition) -> Rule {
    Rule { key: avp.key, min: 1, max: u8::MAX }
}

/// AVPs that belong to a session or a route have no place in messages of the connection.
const fn never(avp: Definition) -> Rule {
    Rule { key: avp.key, min: 0, max: 0 }
}

/// A command of an application.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    pub code: u32,
    pub application: u32,
    /// Short names of request and answer.
    pub names: (&'static str, &'static str),
    /// Whether the P flag is set; messages of the connection have it clear.
    pub is_proxiable: bool,
    pub request: &'static [Rule],
    pub clause: &'static str,
}

const fn of_connection(
    code: u32,
    names: (&'static str, &'static str),
    request: &'static [Rule],
    clause: &'static str,
) -> Command {
    Command { code, application: application::BASE, names, is_proxiable: false, request, clause }
}

const fn of_session(
    (code, application): (u32, u32),
    names: (&'static str, &'static str),
    request: &'static [Rule],
    clause: &'static str,
) -> Command {
    Command { code, application, names, is_proxiable: true, request, clause }
}

/// All commands that are understood.
pub static COMMANDS: &[Command] = &[
    of_connection(command::CAPABILITIES_EXCHANGE, ("CER", "CEA"), CER, "RFC 6733 §5.3.1"),
    of_connection(command::DEVICE_WATCHDOG, ("DWR", "DWA"), DWR, "RFC 6733 §5.5.1"),
    of_connection(command::DISCONNECT_PEER, ("DPR", "DPA"), DPR, "RFC 6733 §5.4.1"),
    of_session((command::CREDIT_CONTROL, application::GX), ("CCR", "CCA"), CCR, "TS 29.212 §5.6.2"),
    of_session((command::RE_AUTH, application::GX), ("RAR", "RAA"), GX_RAR, "TS 29.212 §5.6.4"),
    of_session((command::AA, application::RX), ("AAR", "AAA"), AAR, "TS 29.214 §5.6.1"),
    of_session((command::RE_AUTH, application::RX), ("RAR", "RAA"), RX_RAR, "TS 29.214 §5.6.3"),
    of_session((command::SESSION_TERMINATION, application::RX), ("STR", "STA"), STR, "TS 29.214 §5.6.5"),
    of_session((command::ABORT_SESSION, application::RX), ("ASR", "ASA"), ASR, "TS 29.214 §5.6.7"),
];

/// The command of an application, if it is understood.
pub fn find(application: u32, code: u32) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.code == code && c.application == application)
}

/// Short name for logs and metrics.
pub fn name(application: u32, code: u32, is_request: bool) -> &'static str {
    let names = find(application, code).map_or(("request", "answer"), |c| c.names);
    if is_request { names.0 } else { names.1 }
}

static CER: &[Rule] = &[
    once(ORIGIN_HOST),
    once(ORIGIN_REALM),
    some(HOST_IP_ADDRESS),
    once(VENDOR_ID),
    once(PRODUCT_NAME),
    optional(ORIGIN_STATE_ID),
    optional(FIRMWARE_REVISION),
    never(SESSION_ID),
    never(DESTINATION_HOST),
];
static DWR: &[Rule] = &[
    once(ORIGIN_HOST),
    once(ORIGIN_REALM),
    optional(ORIGIN_STATE_ID),
    never(SESSION_ID),
    never(DESTINATION_HOST),
];
static DPR: &[Rule] = &[
    once(ORIGIN_HOST),
    once(ORIGIN_REALM),
    once(DISCONNECT_CAUSE),
    never(SESSION_ID),
    never(DESTINATION_HOST),
];
static CCR: &[Rule] = &[
    once(SESSION_ID),
    once(AUTH_APPLICATION_ID),
    once(ORIGIN_HOST),
    once(ORIGIN_REALM),
    once(DESTINATION_REALM),
    once(CC_REQUEST_TYPE),
    once(CC_REQUEST_NUMBER),
    optional(DESTINATION_HOST),
    optional(ORIGIN_STATE_ID),
    optional(TERMINATION_CAUSE),
];
static GX_RAR: &[Rule] = &[
    once(SESSION_ID),
    once(AUTH_APPLICATION_ID),
    once(ORIGIN_HOST),
    once(ORIGIN_REALM),
    once(DESTINATION_REALM),
    once(DESTINATION_HOST),
    once(RE_AUTH_REQUEST_TYPE),
    optional(ORIGIN_STATE_ID),
    optional(SESSION_RELEASE_CAUSE),
];
static AAR: &[Rule] = &[
    once(SESSION_ID),
    once(AUTH_APPLICATION_ID),
    once(ORIGIN_HOST),
    once(ORIGIN_REALM),
    once(DESTINATION_REALM),
    optional(DESTINATION_HOST),
    optional(ORIGIN_STATE_ID),
    optional(AUTH_SESSION_STATE),
];
static RX_RAR: &[Rule] = &[
    once(SESSION_ID),
    once(AUTH_APPLICATION_ID),
    once(ORIGIN_HOST),
    once(ORIGIN_REALM),
    once(DESTINATION_REALM),
    once(DESTINATION_HOST),
    optional(ORIGIN_STATE_ID),
    optional(ABORT_CAUSE),
];
static STR: &[Rule] = &[
    once(SESSION_ID),
    once(AUTH_APPLICATION_ID),
    once(ORIGIN_HOST),
    once(ORIGIN_REALM),
    once(DESTINATION_REALM),
    once(TERMINATION_CAUSE),
    optional(DESTINATION_HOST),
    optional(ORIGIN_STATE_ID),
];
static ASR: &[Rule] = &[
    once(SESSION_ID),
    once(AUTH_APPLICATION_ID),
    once(ORIGIN_HOST),
    once(ORIGIN_REALM),
    once(DESTINATION_REALM),
    once(DESTINATION_HOST),
    once(ABORT_CAUSE),
    optional(ORIGIN_STATE_ID),
];
