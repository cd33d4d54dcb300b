//! Messages to test with: one of every kind that this crate makes, and what kills naive decoders.

use std::net::IpAddr;
use tollway_diameter::answer::{self, Origin};
use tollway_diameter::avp::{TGPP, ietf, tgpp};
use tollway_diameter::capabilities::Local;
use tollway_diameter::peer::cause;
use tollway_diameter::{Message, Outcome, Writer, application, command, result};

pub fn origin(host: &str) -> Origin {
    Origin { host: host.into(), realm: "example.net".into(), state_id: 7 }
}

pub fn local(host: &str, applications: &[u32]) -> Local {
    Local {
        origin: origin(host),
        addresses: vec![IpAddr::from([127, 0, 0, 1])],
        product: "tollway".into(),
        firmware: 1,
        applications: applications.to_vec(),
    }
}

fn head(writer: &mut Writer, from: &str, application: u32) {
    writer.text(ietf::SESSION_ID, &format!("{from};1;42"));
    writer.u32(ietf::AUTH_APPLICATION_ID, application);
    origin(from).write(writer);
    writer.text(ietf::DESTINATION_REALM, "example.net");
}

fn subscription(writer: &mut Writer, kind: u32, data: &str) {
    writer.group(ietf::SUBSCRIPTION_ID, |w| {
        w.u32(ietf::SUBSCRIPTION_ID_TYPE, kind);
        w.text(ietf::SUBSCRIPTION_ID_DATA, data);
    });
}

fn arp(writer: &mut Writer) {
    writer.group(tgpp::ALLOCATION_RETENTION_PRIORITY, |w| {
        w.u32(tgpp::PRIORITY_LEVEL, 9);
        w.u32(tgpp::PRE_EMPTION_CAPABILITY, 1);
        w.u32(tgpp::PRE_EMPTION_VULNERABILITY, 0);
    });
}

/// A CCR-I of 25 AVPs at the top, as a real PCEF sends it (TS 29.212 §5.6.2).
pub fn ccr_initial_into(writer: &mut Writer) {
    head(writer, "pcef.example.net", application::GX);
    writer.u32(ietf::CC_REQUEST_TYPE, 1);
    writer.u32(ietf::CC_REQUEST_NUMBER, 0);
    writer.u32(ietf::ORIGIN_STATE_ID, 7);
    subscription(writer, 1, "999700000000001");
    subscription(writer, 0, "15550000001");
    writer.group(tgpp::SUPPORTED_FEATURES, |w| {
        w.u32(ietf::VENDOR_ID, TGPP);
        w.u32(tgpp::FEATURE_LIST_ID, 1);
        w.u32(tgpp::FEATURE_LIST, 11);
    });
    writer.u32(tgpp::NETWORK_REQUEST_SUPPORT, 1);
    writer.octets(ietf::FRAMED_IP_ADDRESS, &[10, 45, 0, 2]);
    writer.u32(tgpp::IP_CAN_TYPE, 5);
    writer.u32(tgpp::RAT_TYPE, 1004);
    writer.group(tgpp::QOS_INFORMATION, |w| {
        w.u32(tgpp::APN_AGGREGATE_MAX_BITRATE_UL, 1_000_000_000);
        w.u32(tgpp::APN_AGGREGATE_MAX_BITRATE_DL, 1_000_000_000);
    });
    writer.group(tgpp::DEFAULT_EPS_BEARER_QOS, |w| {
        w.u32(tgpp::QOS_CLASS_IDENTIFIER, 9);
        arp(w);
    });
    writer
        .octets(tgpp::TGPP_USER_LOCATION_INFO, &[0x82, 0x99, 0xf9, 0x07, 0, 1, 0x99, 0xf9, 0x07, 0, 0, 0, 1]);
    writer.text(tgpp::TGPP_SGSN_MCC_MNC, "99970");
    writer.address(tgpp::AN_GW_ADDRESS, IpAddr::from([127, 0, 0, 3]));
    writer.text(ietf::CALLED_STATION_ID, "internet");
    writer.u32(tgpp::ONLINE, 1);
    writer.u32(tgpp::OFFLINE, 0);
    writer.address(tgpp::ACCESS_NETWORK_CHARGING_ADDRESS, IpAddr::from([127, 0, 0, 4]));
    writer.group(tgpp::ACCESS_NETWORK_CHARGING_IDENTIFIER_GX, |w| {
        w.octets(tgpp::ACCESS_NETWORK_CHARGING_IDENTIFIER_VALUE, &[0, 0, 0, 1]);
    });
}

pub fn ccr_initial() -> Vec<u8> {
    let mut writer = Writer::request(command::CREDIT_CONTROL, application::GX);
    ccr_initial_into(&mut writer);
    writer.finish().expect("it fits")
}

fn rule(writer: &mut Writer) {
    writer.group(tgpp::CHARGING_RULE_INSTALL, |w| {
        w.group(tgpp::CHARGING_RULE_DEFINITION, |w| {
            w.text(tgpp::CHARGING_RULE_NAME, "tw-1-1");
            w.u32(ietf::RATING_GROUP, 1);
            for (direction, text) in [
                (1, "permit out 17 from 198.51.100.7 443 to 10.45.0.2"),
                (2, "permit out ip from any to any"),
            ] {
                w.group(tgpp::FLOW_INFORMATION, |w| {
                    w.text(tgpp::FLOW_DESCRIPTION, text);
                    w.u32(tgpp::FLOW_DIRECTION, direction);
                });
            }
            w.u32(tgpp::FLOW_STATUS, 2);
            w.group(tgpp::QOS_INFORMATION, |w| {
                w.u32(tgpp::QOS_CLASS_IDENTIFIER, 4);
                w.u32(tgpp::MAX_REQUESTED_BANDWIDTH_DL, 5_000_000);
                w.u32(tgpp::GUARANTEED_BITRATE_DL, 2_000_000);
                arp(w);
            });
            w.u32(tgpp::PRECEDENCE, 100);
            w.octets(tgpp::MONITORING_KEY, b"tw-1-1");
        });
        w.time(tgpp::RULE_DEACTIVATION_TIME, 1_800_000_000);
    });
}

fn session_request(command: u32, application: u32, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::request(command, application);
    head(&mut writer, "pcrf.example.net", application);
    writer.text(ietf::DESTINATION_HOST, "pcef.example.net");
    fill(&mut writer);
    writer.finish().expect("it fits")
}

pub fn rar() -> Vec<u8> {
    session_request(command::RE_AUTH, application::GX, |w| {
        w.u32(ietf::RE_AUTH_REQUEST_TYPE, 0);
        rule(w);
        w.u32(tgpp::EVENT_TRIGGER, 22);
        w.group(tgpp::USAGE_MONITORING_INFORMATION, |w| {
            w.octets(tgpp::MONITORING_KEY, b"tw-1-1");
            w.group(ietf::GRANTED_SERVICE_UNIT, |w| w.u64(ietf::CC_TOTAL_OCTETS, 10 << 20));
        });
    })
}

fn of_connection(command: u32) -> Vec<u8> {
    let mut writer = Writer::request(command, application::BASE);
    origin("pcef.example.net").write(&mut writer);
    if command == command::DISCONNECT_PEER {
        writer.u32(ietf::DISCONNECT_CAUSE, cause::REBOOTING);
    } else {
        writer.u32(ietf::ORIGIN_STATE_ID, 7);
    }
    writer.finish().expect("it fits")
}

fn answers(request: &[u8]) -> Vec<Vec<u8>> {
    let request = Message::parse(request).expect("ours");
    let us = origin("pcrf.example.net");
    let good = answer::answer_with(&request, &us, result::SUCCESS).finish().expect("it fits");
    let outcome = Outcome { vendor: TGPP, code: 5142 };
    let odd = answer::answer(&request, &us, outcome).finish().expect("it fits");
    let refused = answer::refuse_with(&request, &us, result::UNABLE_TO_DELIVER, "not our host");
    vec![good, odd, refused]
}

/// One of every kind that the crate can make: base, Gx, Rx, answers of three sorts to each request.
pub fn all() -> Vec<Vec<u8>> {
    let us = local("pcrf.example.net", &[application::GX, application::RX]);
    let media = |w: &mut Writer| {
        w.group(tgpp::MEDIA_COMPONENT_DESCRIPTION, |w| {
            w.u32(tgpp::MEDIA_COMPONENT_NUMBER, 1);
            w.group(tgpp::MEDIA_SUB_COMPONENT, |w| {
                w.u32(tgpp::FLOW_NUMBER, 1);
                w.text(tgpp::FLOW_DESCRIPTION, "permit out ip from 198.51.100.7 to 10.45.0.2");
            });
            w.u32(tgpp::MAX_REQUESTED_BANDWIDTH_DL, 3_000_000);
        });
        w.u32(tgpp::SPECIFIC_ACTION, 8);
    };
    let requests = vec![
        us.cer().expect("it fits"),
        of_connection(command::DEVICE_WATCHDOG),
        of_connection(command::DISCONNECT_PEER),
        ccr_initial(),
        rar(),
        session_request(command::AA, application::RX, media),
        session_request(command::RE_AUTH, application::RX, |w| w.u32(tgpp::SPECIFIC_ACTION, 2)),
        session_request(command::SESSION_TERMINATION, application::RX, |w| w.u32(ietf::TERMINATION_CAUSE, 1)),
        session_request(command::ABORT_SESSION, application::RX, |w| w.u32(tgpp::ABORT_CAUSE, 0)),
    ];
    let mut all: Vec<Vec<u8>> = requests.iter().flat_map(|request| answers(request)).collect();
    let cer = Message::parse(&requests[0]).expect("ours");
    all.push(us.cea(&cer, result::SUCCESS, None).expect("it fits"));
    all.extend(requests);
    all
}

fn frame(flags: u8, command: u32, application: u32, avps: &[u8]) -> Vec<u8> {
    let mut bytes = (0x0100_0000 | (20 + avps.len()) as u32).to_be_bytes().to_vec();
    bytes.extend((u32::from(flags) << 24 | command).to_be_bytes());
    bytes.extend(application.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 2]);
    bytes.extend(avps);
    bytes
}

/// What aborts, panics or starves other decoders, with the Result-Code it deserves.
pub fn killers() -> Vec<(&'static str, Vec<u8>, u32)> {
    let nested = |levels: usize| {
        let mut avps = Vec::new();
        for level in 0..levels {
            avps.extend(443u32.to_be_bytes());
            avps.extend((0x4000_0000 | ((levels - level) * 8) as u32).to_be_bytes());
        }
        frame(0xc0, 272, application::GX, &avps)
    };
    let mut all = vec![
        ("5,000 nested groups", nested(5_000), 5004),
        ("8,189 nested groups", nested(8_189), 5004),
        ("unknown command", frame(0xc0, 316, application::GX, &[]), 3001),
        ("unknown application", frame(0xc0, 272, 16_777_272, &[]), 3007),
        ("application of all ones", frame(0xc0, 272, u32::MAX, &[]), 3007),
        ("E and R", frame(0xe0, 272, application::GX, &[]), 3008),
        ("P clear", frame(0x80, 272, application::GX, &[]), 3008),
        ("unknown AVP, M set", frame(0xc0, 272, application::GX, &[0, 0, 0x1f, 0x40, 0x40, 0, 0, 8]), 5001),
        ("reserved AVP flag", frame(0xc0, 272, application::GX, &[0, 0, 1, 7, 0x41, 0, 0, 8]), 3009),
        (
            "AVP longer than the message",
            frame(0xc0, 272, application::GX, &[0, 0, 1, 7, 0x40, 255, 255, 255]),
            5014,
        ),
        ("half an AVP header", frame(0xc0, 272, application::GX, &[0, 0, 1, 7]), 5014),
        (
            "Unsigned32 of 8",
            frame(0xc0, 272, application::GX, &[0, 0, 1, 2, 0x40, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0]),
            5014,
        ),
    ];
    for len in 0..8 {
        all.push((
            "AVP length 0..7",
            frame(0xc0, 272, application::GX, &[0, 0, 1, 7, 0x40, 0, 0, len]),
            5014,
        ));
    }
    all
}
