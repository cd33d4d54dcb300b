//! What is asked of a gateway: the AVPs of a rule, its times, its changes, its refusals.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use support::*;
use tollway_diameter::avp::ietf::{
    CC_OUTPUT_OCTETS, DESTINATION_HOST, DESTINATION_REALM, GRANTED_SERVICE_UNIT, RATING_GROUP,
    SERVICE_IDENTIFIER,
};
use tollway_diameter::avp::tgpp::{
    ALLOCATION_RETENTION_PRIORITY, CHARGING_RULE_DEFINITION, CHARGING_RULE_INSTALL, CHARGING_RULE_REMOVE,
    EXTENDED_GBR_DL, FEATURE_LIST, FEATURE_LIST_ID, FLOW_DESCRIPTION, FLOW_DIRECTION, FLOW_INFORMATION,
    GUARANTEED_BITRATE_DL, GUARANTEED_BITRATE_UL, MAX_REQUESTED_BANDWIDTH_DL, METERING_METHOD,
    MONITORING_KEY, OFFLINE, ONLINE, PRE_EMPTION_CAPABILITY, PRE_EMPTION_VULNERABILITY, PRIORITY_LEVEL,
    QOS_CLASS_IDENTIFIER, QOS_INFORMATION, RESOURCE_ALLOCATION_NOTIFICATION, RULE_ACTIVATION_TIME,
    RULE_DEACTIVATION_TIME, SUPPORTED_FEATURES, USAGE_MONITORING_INFORMATION, USAGE_MONITORING_LEVEL,
};
use tollway_diameter::avp::{Avp, Definition};
use tollway_diameter::machine::Failure;
use tollway_diameter::{Message, Writer};
use tollway_gx::{Desire, Gateway, Input, QosClass, Reports, RuleTimes, Settings};
use tollway_model::{BitsPerSecond, Schedule, Timestamp, Window};
use tollway_policy::{PolicyReport, Side};

fn number(group: &Avp<'_>, avp: Definition) -> Option<u32> {
    group.find(avp).and_then(|avp| avp.u32())
}

fn push(world: &mut World, desire: Desire) {
    world.input(Input::Desire(Box::new(desire)));
}

fn with(gateway: Gateway) -> World {
    let mut world = World::new(Settings { gateway, ..settings() });
    assert_eq!(world.ask(attach(1, &session(1))), 2001);
    world.facts.clear();
    world
}

/// Rates in force in both directions, by time.
fn schedule(desire: &mut Desire, segments: &[(u64, u64, u64)]) {
    let segment = |(from, until, bps): &(u64, u64, u64)| tollway_model::Segment {
        window: Window::new(at(*from), at(*until)),
        rate: BitsPerSecond(*bps).class_rate(1_500),
    };
    let schedule = Schedule::from_segments(segments.iter().map(segment)).unwrap();
    desire.desired.valid_until = schedule.window().unwrap().until;
    desire.desired.down = Side { port: "down".into(), schedule: schedule.clone() };
    desire.desired.up = Side { port: "up".into(), schedule };
}

#[test]
fn a_rule_says_everything() {
    let mut world = World::attached();
    push(&mut world, desire(1, 1, START));
    let rar = world.requests[0].1.clone();
    let message = Message::parse(&rar).unwrap();
    assert_eq!(message.text(DESTINATION_HOST), Some(GATEWAY));
    assert_eq!(message.text(DESTINATION_REALM), Some("example"));
    let install = message.find(CHARGING_RULE_INSTALL).unwrap();
    assert_eq!(number(&install, RESOURCE_ALLOCATION_NOTIFICATION), Some(0));
    assert_eq!(install.find(RULE_ACTIVATION_TIME), None);
    let until = install.find(RULE_DEACTIVATION_TIME).and_then(|avp| avp.unix_s());
    assert_eq!(until, Some(at(3_600).ms() / 1_000), "a dead broker leaves no paid rule behind");
    let rule = install.find(CHARGING_RULE_DEFINITION).unwrap();
    for (avp, value) in
        [(SERVICE_IDENTIFIER, 5), (RATING_GROUP, 77), (ONLINE, 0), (OFFLINE, 1), (METERING_METHOD, 1)]
    {
        assert_eq!(number(&rule, avp), Some(value), "{}", avp.name);
    }
    let qos = rule.find(QOS_INFORMATION).unwrap();
    assert_eq!(number(&qos, QOS_CLASS_IDENTIFIER), Some(4));
    // The class rate's Ethernet headers are taken off: IP bits are what a bearer counts.
    assert_eq!(number(&qos, GUARANTEED_BITRATE_DL), Some(5_000_000));
    assert_eq!(number(&qos, GUARANTEED_BITRATE_UL), Some(150_000));
    let arp = qos.find(ALLOCATION_RETENTION_PRIORITY).unwrap();
    let arp =
        [PRIORITY_LEVEL, PRE_EMPTION_CAPABILITY, PRE_EMPTION_VULNERABILITY].map(|avp| number(&arp, avp));
    assert_eq!(arp, [Some(9), Some(1), Some(0)]);
    let filters: Vec<_> = rule
        .children()
        .filter(|avp| avp.key == FLOW_INFORMATION.key)
        .map(|f| (f.find(FLOW_DESCRIPTION).unwrap().text().unwrap(), number(&f, FLOW_DIRECTION).unwrap()))
        .collect();
    let text = "permit out 6 from 192.0.2.1 443 to 10.0.0.1 5000";
    assert_eq!(filters, [(text, 2), (text, 1)], "uplink too in downlink form");
    let monitoring = message.find(USAGE_MONITORING_INFORMATION).unwrap();
    assert_eq!(
        monitoring.find(MONITORING_KEY).map(|key| key.data),
        rule.find(MONITORING_KEY).map(|k| k.data)
    );
    let granted = monitoring.find(GRANTED_SERVICE_UNIT).and_then(|g| g.find(CC_OUTPUT_OCTETS)).unwrap();
    assert_eq!((granted.u64(), number(&monitoring, USAGE_MONITORING_LEVEL)), (Some(1_000_000), Some(1)));
}

#[test]
fn a_class_without_gbr_has_only_an_mbr() {
    let mut world = World::attached();
    let mut wanted = desire(1, 1, START);
    wanted.terms.class = QosClass::new(8, 12, None).unwrap();
    wanted.terms.usage_bytes = None;
    wanted.terms.mbr_bps_min = 9_000_000;
    wanted.desired.shape.borrow = true;
    push(&mut world, wanted);
    let message = Message::parse(&world.requests[0].1).unwrap();
    let rule = message.find(CHARGING_RULE_INSTALL).and_then(|i| i.find(CHARGING_RULE_DEFINITION)).unwrap();
    let qos = rule.find(QOS_INFORMATION).unwrap();
    assert_eq!(number(&qos, MAX_REQUESTED_BANDWIDTH_DL), Some(9_000_000), "excess is carried");
    assert_eq!(qos.find(GUARANTEED_BITRATE_DL), None);
    assert_eq!((rule.find(MONITORING_KEY), message.find(USAGE_MONITORING_INFORMATION)), (None, None));
}

#[test]
fn raa_2001_is_accepted_and_not_active() {
    let mut world = World::attached();
    push(&mut world, desire(1, 1, START));
    world.accept_one();
    world.until(at(120));
    assert_eq!(world.words(), ["1 accepted"]);
    assert_eq!(world.readings().len(), 0, "no time of it counts");
}

#[test]
fn without_reports_a_leg_stays_accepted_and_unconfirmed() {
    let mut world = with(Gateway { reports: Reports::None, ..Gateway::default() });
    push(&mut world, desire(1, 1, START));
    let message = Message::parse(&world.requests[0].1).unwrap();
    let install = message.find(CHARGING_RULE_INSTALL).unwrap();
    assert_eq!(install.find(RESOURCE_ALLOCATION_NOTIFICATION), None);
    world.accept_one();
    world.ask(ccr(2, 1, &session(1), |w| rule_report(w, "tw-1-0", 0, None)));
    world.until(at(120));
    assert_eq!(world.words(), ["1 accepted", "1 unconfirmed"]);
    let time: Vec<_> = world.readings().iter().map(|r| (r.active_ms, r.unconfirmed_ms)).collect();
    assert_eq!(time, [(0, 60_000); 2], "its time is told apart from what is known");
}

#[test]
fn a_silent_gateways_rule_counts_from_its_activation_on() {
    let mut world = with(Gateway { reports: Reports::None, ..Gateway::default() });
    let mut wanted = desire(1, 1, at(30));
    schedule(&mut wanted, &[(30, 60, 5_000_000), (2_000, 2_060, 5_000_000)]);
    push(&mut world, wanted.clone());
    world.accept_one();
    world.until(at(29));
    assert_eq!(world.words(), ["1 accepted"], "it is laid ready");
    // The pause takes it off; then it is laid ready again.
    while world.now < at(2_100) {
        world.until(world.now.plus_ms(1_000));
        while !world.requests.is_empty() {
            world.accept_one();
        }
    }
    assert_eq!(world.words(), ["1 accepted", "1 unconfirmed", "1 removed"]);
    let told: u32 = world.readings().iter().map(|reading| reading.unconfirmed_ms).sum();
    assert!((90_000..=95_000).contains(&told), "{told}: until the answer to its removal");
    // A restart of ours goes on with what was known.
    let mut world = with(Gateway { reports: Reports::None, ..Gateway::default() });
    let known = tollway_gx::Known::Active;
    push(&mut world, Desire { known, ..desire(1, 1, START) });
    world.accept_one();
    world.until(at(60));
    assert_eq!(world.words(), ["1 accepted", "1 unconfirmed"]);
    assert_eq!(world.readings()[0].unconfirmed_ms, 60_000);
}

#[test]
fn what_a_silent_gateway_takes_back_is_lost_and_asked_for_again() {
    let mut world = with(Gateway { reports: Reports::None, ..Gateway::default() });
    push(&mut world, desire(1, 1, START));
    world.accept_one();
    world.until(at(10));
    world.ask(ccr(2, 1, &session(1), |w| rule_report(w, "tw-1-0", 1, Some(10))));
    world.until(at(20));
    world.accept_one();
    assert_eq!(
        world.words(),
        [
            "1 accepted",
            "1 unconfirmed",
            "1 lost: inactive: resource allocation failure (10)",
            "1 accepted",
            "1 unconfirmed"
        ]
    );
}

#[test]
fn a_leg_names_its_road() {
    use tollway_policy::{GxTerms, Road};
    let wanted = desire(1, 1, START);
    let road = |qci, is_active| Road::Gx {
        access: wanted.access.clone(),
        terms: GxTerms {
            qci,
            priority_level: 9,
            allow_priority: None,
            precedence: 100,
            rating_group: 77,
            service_identifier: Some(5),
            metering: tollway_policy::Metering::Volume,
            online: false,
            offline: true,
            mbr_bps_min: 0,
            usage_bytes: Some(1_000_000),
        },
        is_active,
    };
    let with = |road| Desire::of(tollway_policy::DesiredLeg { road, ..wanted.desired.clone() });
    assert_eq!(with(Some(road(4, false))), Ok(wanted.clone()));
    let known = tollway_gx::Known::Active;
    assert_eq!(with(Some(road(4, true))), Ok(Desire { known, ..wanted.clone() }), "the same leg");
    assert_eq!(with(None), Err(tollway_gx::NotGx::Road));
    assert!(matches!(with(Some(road(1, false))), Err(tollway_gx::NotGx::Qos(_))));
}

#[test]
fn rates_above_32_bits_need_the_feature() {
    let wide = |world: &mut World| {
        let mut wanted = desire(1, 1, START);
        schedule(&mut wanted, &[(0, 60, 5_000_000_000)]);
        push(world, wanted);
    };
    let mut world = World::attached();
    wide(&mut world);
    let refused = "1 refused: above 4,294,967,295 bit/s, which this gateway did not negotiate";
    assert_eq!((world.words(), world.requests.len()), (vec![refused.to_owned()], 0));

    let offer = |w: &mut Writer| {
        w.group(SUPPORTED_FEATURES, |w| {
            w.u32(tollway_diameter::avp::ietf::VENDOR_ID, 10_415);
            w.u32(FEATURE_LIST_ID, 2);
            w.u32(FEATURE_LIST, 0xff);
        });
    };
    let mut world = World::new(settings());
    let answer = world.ask_for(attach_with(1, &session(1), APN, offer));
    let answered = Message::parse(&answer).unwrap().find(SUPPORTED_FEATURES).unwrap();
    assert_eq!(number(&answered, FEATURE_LIST), Some(1 << 7), "no more than we do");
    wide(&mut world);
    let message = Message::parse(&world.requests[0].1).unwrap();
    let rule = message.find(CHARGING_RULE_INSTALL).and_then(|i| i.find(CHARGING_RULE_DEFINITION)).unwrap();
    let qos = rule.find(QOS_INFORMATION).unwrap();
    assert_eq!(number(&qos, GUARANTEED_BITRATE_DL), Some(u32::MAX));
    assert_eq!(number(&qos, EXTENDED_GBR_DL), Some(5_000_000));
}

#[test]
fn what_cannot_be_is_refused_at_its_start() {
    type Change = fn(&mut Desire);
    let cases: [(&str, Change); 3] = [
        ("no flow is bound yet: a rule on Gx needs one", |d| d.desired.flows.clear()),
        ("10.9.9.9 is not the address of the session", |d| {
            d.desired.flows[0].device = [10, 9, 9, 9].into();
        }),
        ("the subscriber has no session at this APN", |d| d.access.apn = "corp".into()),
    ];
    for (reason, change) in cases {
        let mut world = World::attached();
        let mut wanted = desire(1, 1, at(100));
        change(&mut wanted);
        push(&mut world, wanted.clone());
        world.until(at(99));
        assert_eq!(world.words(), [""; 0], "until its start it may come right");
        world.until(at(100));
        assert_eq!(world.words(), [format!("1 refused: {reason}")]);
        world.until(at(200));
        assert_eq!((world.words().len(), world.requests.len()), (1, 0));
        // The engine asks again with what is right.
        let mut right = desire(1, 1, at(100));
        right.desired.attempt = 2;
        if right.access == wanted.access {
            push(&mut world, right);
            world.accept_one();
            assert_eq!(world.words()[1], "1 accepted");
        }
    }
    let mut world = with(Gateway { filters_max: 1, ..Gateway::default() });
    push(&mut world, desire(1, 1, START));
    assert_eq!(world.words(), ["1 refused: 2 packet filters; the gateway takes 1"]);
    let mut other = desire(2, 1, START);
    other.access.apn = "elsewhere".into();
    push(&mut world, other);
    assert_eq!(world.words()[1], "2 refused: elsewhere is none of our APNs");
    for n in 3..=70 {
        push(&mut world, desire(n, 1, at(5_000)));
    }
    assert_eq!(world.words().last().unwrap(), "70 refused: 64 legs at one access are the most");
}

#[test]
fn a_rule_is_laid_ready_ten_minutes_ahead_where_times_are_kept() {
    let mut world = World::attached();
    push(&mut world, desire(1, 1, at(1_000)));
    world.until(at(399));
    assert_eq!(world.requests.len(), 0);
    world.until(at(400));
    let install = Message::parse(&world.requests[0].1).unwrap().find(CHARGING_RULE_INSTALL).unwrap();
    let activation = install.find(RULE_ACTIVATION_TIME).and_then(|avp| avp.unix_s());
    assert_eq!(activation, Some(at(1_000).ms() / 1_000));
    world.accept_one();
    world.until(at(1_100));
    assert_eq!(world.requests.len(), 0, "its start needs nobody");

    let mut world = with(Gateway { rule_times: RuleTimes::Ignored, ..Gateway::default() });
    push(&mut world, desire(1, 1, at(1_000)));
    world.until(at(999));
    assert_eq!(world.requests.len(), 0);
    world.until(at(1_000));
    assert_eq!(world.rules_of_next().0, ["tw-1-0"]);
}

#[test]
fn rates_follow_the_schedule_in_one_rar_each() {
    let mut world = World::attached();
    let mut wanted = desire(1, 1, START);
    schedule(&mut wanted, &[(0, 60, 1_000_000), (60, 120, 2_000_000), (1_000, 1_060, 2_000_000)]);
    push(&mut world, wanted);
    let rate = |bytes: &[u8]| {
        let message = Message::parse(bytes).unwrap();
        let rule = message.find(CHARGING_RULE_INSTALL).and_then(|i| i.find(CHARGING_RULE_DEFINITION))?;
        assert_eq!(message.find(CHARGING_RULE_REMOVE), None, "changed, never absent");
        number(&rule.find(QOS_INFORMATION)?, GUARANTEED_BITRATE_UL)
    };
    assert_eq!(rate(&world.requests[0].1), Some(1_000_000));
    world.accept_one();
    world.until(at(60));
    assert_eq!(rate(&world.requests[0].1), Some(2_000_000));
    world.accept_one();
    // A gap: the rule goes, and comes back for its next segment; the leg lives on.
    world.until(at(120));
    assert_eq!(world.rules_of_next().1, ["tw-1-0"]);
    world.accept_one();
    world.until(at(399));
    assert_eq!(world.requests.len(), 0);
    world.until(at(400));
    assert_eq!(rate(&world.requests[0].1), Some(2_000_000));
    world.accept_one();
    world.until(at(1_060));
    assert_eq!(world.rules_of_next().1, ["tw-1-0"], "its end does not need the engine");
    world.accept_one();
    world.until(at(1_070));
    assert_eq!(world.words(), ["1 accepted", "1 removed"]);
}

#[test]
fn new_flows_change_the_rule_in_place() {
    let mut world = World::active();
    let mut bound = desire(1, 1, START);
    bound.desired.attempt = 2;
    bound.desired.flows[0].device_port = Some(6_000);
    push(&mut world, bound.clone());
    assert_eq!(world.rules_of_next(), (vec!["tw-1-0".to_owned()], vec![]));
    // One more change while the RAR is on its way: the last one sent is the last one done.
    bound.desired.attempt = 3;
    bound.desired.flows[0].device_port = Some(7_000);
    push(&mut world, bound);
    assert_eq!(world.requests.len(), 1);
    world.accept_one();
    assert_eq!(world.words(), [""; 0]);
    assert!(String::from_utf8_lossy(&world.requests[0].1).contains("to 10.0.0.1 7000"));
    world.accept_one();
    assert_eq!(world.words(), ["1 accepted"]);
    world.until(at(60));
    assert_eq!(world.readings()[0].active_ms, 60_000, "active all the while");
}

#[test]
fn a_gateway_without_clock_or_answer_ends_a_rule_by_its_deactivation_time() {
    let mut world = World::active();
    while world.now < at(3_610) {
        world.until(world.now.plus_ms(1_000));
        while !world.requests.is_empty() {
            world.fail_one(Failure::Timeout);
        }
    }
    let removed = world.facts.iter().find_map(|fact| match fact {
        tollway_policy::Report::Leg { report: PolicyReport::Removed { at }, .. } => Some(*at),
        _ => None,
    });
    assert_eq!(removed, Some(at(3_607)), "2 s of slack, 5 s for its last usage");
    assert!(world.readings().last().unwrap().last);
}

#[test]
fn the_last_usage_is_waited_for() {
    let mut world = World::active();
    world.now = at(30);
    let access = desire(1, 1, START).access;
    world.input(Input::Release { leg: leg(1), attempt: 2, access });
    world.accept_one();
    assert_eq!(world.words(), [""; 0]);
    world.now = at(31);
    world.ask(ccr(2, 2, &session(1), |w| usage(w, "tw-1-0", 10, 7_000)));
    assert_eq!(world.words(), ["1 removed"]);
    let last = world.readings()[0].clone();
    assert_eq!((last.sold.bytes, last.active_ms, last.last, last.seq), (7_000, 30_000, true, 1));
    assert_eq!(world.readings().len(), 1);
    world.until(at(200));
    assert_eq!(world.readings().len(), 1);
    // Released once more, as after a restart of the engine: said once more.
    let access = desire(1, 1, START).access;
    world.input(Input::Release { leg: leg(1), attempt: 2, access });
    assert_eq!(world.words().len(), 2);
}

#[test]
fn slots_are_told_apart() {
    let mut world = World::active();
    world.ask(ccr(2, 2, &session(1), |w| usage(w, "tw-1-0", 0, 1_000)));
    world.until(at(125));
    let of =
        |r: &&tollway_policy::SlotReading| (r.slot.0 - START.ms() / 60_000, r.seq, r.active_ms, r.sold.bytes);
    let slots: Vec<_> = world.readings().iter().map(of).collect();
    // The active time of a slot is in the readings of that slot, each part once.
    assert_eq!(slots, [(0, 1, 0, 1_000), (0, 2, 60_000, 1_000), (1, 3, 60_000, 1_000)]);
    world.ask(ccr(2, 3, &session(1), |w| usage(w, "tw-1-0", 0, 500)));
    assert_eq!(world.readings().iter().map(of).next_back(), Some((2, 4, 5_000, 1_500)));
}

#[test]
fn a_rar_has_few_rules_and_a_gateway_few_rars() {
    let mut world = World::attached();
    for n in 1..=20 {
        push(&mut world, desire(n, 1, at(900)));
    }
    world.until(at(300));
    let mut counts = Vec::new();
    while !world.requests.is_empty() {
        counts.push(world.rules_of_next().0.len());
        world.accept_one();
        world.until(world.now.plus_ms(10));
    }
    assert_eq!((counts.iter().sum::<usize>(), counts.iter().max()), (20, Some(&8)), "{counts:?}");

    let mut world = World::new(Settings {
        gateway: Gateway { rar_rate_max: Some(10), ..Gateway::default() },
        ..settings()
    });
    for n in 1..=40 {
        world.ask(attach(n, &session(n)));
    }
    // Later starts first: the queue orders them.
    for n in (1..=40).rev() {
        push(&mut world, desire(n, n, at(100 + n)));
    }
    let mut order = Vec::new();
    for _ in 0..20 {
        world.until(world.now.plus_ms(100));
        while !world.requests.is_empty() {
            order.extend(world.rules_of_next().0);
            world.accept_one();
        }
    }
    assert!((20..=21).contains(&order.len()), "10 a second: {}", order.len());
    assert_eq!(order[1..4], ["tw-1-0", "tw-2-0", "tw-3-0"], "{order:?}");
    assert_eq!(world.machine.queue_len(GATEWAY), 40 - order.len());
}

#[test]
fn the_whole_set_again_says_what_was_said() {
    let mut world = World::active();
    push(&mut world, desire(1, 1, START));
    assert_eq!((world.words(), world.requests.len()), (vec!["1 active".to_owned()], 0));
    let old = desire(1, 1, Timestamp::ZERO);
    push(
        &mut world,
        Desire { desired: tollway_policy::DesiredLeg { attempt: 0, ..old.desired.clone() }, ..old },
    );
    assert_eq!(world.words().len(), 1, "an older attempt is stale");
}

#[test]
fn answers_are_waited_for_before_a_gateway_gets_more() {
    let gateway = Gateway { rar_rate_max: None, ..Gateway::default() };
    let mut world = World::new(Settings { gateway, ..settings() });
    for n in 1..=4_100 {
        world.ask(attach(n, &session(n)));
        push(&mut world, desire(n, n, START));
    }
    assert_eq!((world.requests.len(), world.machine.queue_len(GATEWAY)), (4_096, 4));
    world.accept_one();
    assert_eq!((world.requests.len(), world.machine.queue_len(GATEWAY)), (4_096, 3));
}
