//! Learnt accesses: who may buy there, which addresses flows may have, what a configuration may do to them,
//! and what is owed for time that nobody confirms.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use expect_test::expect;
use support::*;
use tollway_core::config::{AccessDef, ConfigDef, CustomerDef, EndpointDef, RoadDef, SideDef, TierKind};
use tollway_core::limits::{LEARNT_ACCESSES_MAX, SESSION_NAME_BYTES_MAX};
use tollway_core::offer::{Need, QuoteRequest, When};
use tollway_core::reservation::{EndReason, LegState, Promise};
use tollway_core::{Command, Engine, Input, Output, Reply, Reservation};
use tollway_model::{
    AccessId, BitsPerSecond, Currency, CustomerId, Direction, Flow, OfferId, Slot, TierId, Timestamp,
};
use tollway_policy::{
    DeviceAddress, GxTerms, Metering, MobileAccess, PolicyCommand, PolicyReport, Report, Road, RxTerms,
    Session, SessionName, SessionReport, SubscriberRef,
};

/// Buys on line 17 for whatever address it has.
const PHONE: CustomerId = CustomerId(3);
/// Buys on every line, for addresses in 10.45.0.0/24.
const FLEET: CustomerId = CustomerId(4);
const FAMILY: AccessId = AccessId(2);
const PCRF: AccessId = AccessId(3);

fn gx_terms() -> GxTerms {
    GxTerms {
        qci: 8,
        priority_level: 10,
        allow_priority: None,
        precedence: 100,
        rating_group: 7,
        service_identifier: None,
        metering: Metering::Volume,
        online: false,
        offline: true,
        mbr_bps_min: 0,
        usage_bytes: Some(1_000_000),
    }
}

fn mobile_config() -> ConfigDef {
    let mut config = config();
    let mut tier = config.tiers[0].clone();
    (tier.name, tier.kind, tier.gx) = ("air".into(), TierKind::Target, Some(gx_terms()));
    config.tiers.push(tier.clone());
    (tier.name, tier.charge_unconfirmed) = ("trust".into(), true);
    config.tiers.push(tier.clone());
    let rx = RxTerms { media_type: 2, application: None, sponsor: None, usage_bytes: None };
    (tier.name, tier.gx, tier.rx) = ("media".into(), None, Some(rx));
    config.tiers.push(tier);
    let side = || SideDef { port: "sgi".into(), pools: vec!["shared".into()] };
    let access = |name: &str, point: &str, road| AccessDef {
        name: name.into(),
        enforcement_point: point.into(),
        up: side(),
        down: side(),
        price_pool: "shared".into(),
        subscriber: String::new(),
        road: Some(road),
    };
    config.accesses.push(access("internet", "gx", RoadDef::Gx { apn: "internet".into() }));
    config.accesses.push(access("pcrf", "rx", RoadDef::Rx { apn: None }));
    let customer = |name: &str, access: &str, addresses: &[&str]| CustomerDef {
        name: name.into(),
        currency: Currency::EUR,
        endpoints: vec![EndpointDef {
            access: access.into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }],
    };
    config.customers.push(customer("phone", "internet/17", &[]));
    config.customers.push(customer("fleet", "internet/*", &["10.45.0.0/24"]));
    config.customers.push(customer("media", "pcrf", &["10.46.0.0/16"]));
    config
}

fn session(subscriber: u64, id: &str, address: &str) -> Session {
    let (v4, v6) = match address.parse().unwrap() {
        std::net::IpAddr::V4(v4) => (Some(v4), None),
        std::net::IpAddr::V6(v6) => (None, Some((v6, 64))),
    };
    Session {
        name: SessionName {
            session_id: id.into(),
            origin_host: "pcef.test".into(),
            origin_realm: "test".into(),
        },
        access: MobileAccess { subscriber: SubscriberRef(subscriber), apn: "internet".into() },
        address: DeviceAddress { v4, v6 },
        number: 0,
        has_extended: false,
        is_away: false,
    }
}

struct Mobile(World);

impl Mobile {
    fn new() -> Mobile {
        let mut world = World::new();
        let configured = world.configure(mobile_config());
        assert!(matches!(configured, Reply::Configured { .. }), "{configured:?}");
        for point in ["gx", "rx"] {
            world.input(Input::AdapterConnected { enforcement_point: point.into(), connection: 1 });
        }
        for customer in [PHONE, FLEET, CustomerId(5)] {
            world.top_up(customer, 10_000_000);
        }
        Mobile(world)
    }

    fn tell(&mut self, reports: Vec<Report>) {
        let number = self.0.engine.state().last_batch("gx") + 1;
        self.0.input(Input::Reports { enforcement_point: "gx".into(), number, reports });
    }

    fn open(&mut self, session: Session) {
        self.tell(vec![Report::Session(SessionReport::Open(session))]);
    }

    fn close(&mut self, id: &str) {
        let name = session(0, id, "10.0.0.1").name;
        let reason = "CCR-T".to_owned();
        self.tell(vec![Report::Session(SessionReport::Closed { name, reason })]);
    }

    fn quote(&mut self, customer: CustomerId, line: u64, tier: Option<u32>) -> Reply {
        let request = QuoteRequest {
            access: FAMILY,
            direction: Direction::Down,
            tier: tier.map(TierId),
            need: Need::Rate(BitsPerSecond(1_000_000)),
            start: None,
            end: When::In(60_000),
            subscriber: Some(SubscriberRef(line)),
        };
        self.0.command(customer, Command::Quote(request))
    }

    fn held(&mut self, customer: CustomerId, line: u64, tier: u32) -> Reservation {
        let Reply::Quote(quote) = self.quote(customer, line, Some(tier)) else { panic!("refused") };
        self.0.reservation(customer, Command::Take { offer: OfferId { quote: quote.id, index: 0 } })
    }

    fn confirm(&mut self, held: &Reservation, device: &str) -> Reply {
        let flows = vec![Flow { device: device.parse().unwrap(), ..flow(40_000) }];
        let customer = held.customer;
        self.0.command(customer, Command::Confirm { reservation: held.id, flows: Some(flows) })
    }

    fn confirmed(&mut self, tier: u32) -> Reservation {
        self.open(session(17, "s1", "10.45.0.2"));
        let held = self.held(PHONE, 17, tier);
        let reply = self.confirm(&held, "10.45.0.2");
        let Reply::Reservation(reservation) = reply else { panic!("{reply:?}") };
        *reservation
    }

    fn says(&mut self, reservation: &Reservation, report: PolicyReport) {
        let (leg, attempt) = (reservation.leg_id(), reservation.leg.attempt);
        self.tell(vec![Report::Leg { leg, attempt, report }]);
    }

    fn sessions(&mut self) -> Vec<Session> {
        let connected = Input::AdapterConnected { enforcement_point: "gx".into(), connection: 1 };
        self.0.engine.handle(self.0.now, connected);
        match self.0.engine.poll_output() {
            Some(Output::DesiredSet { sessions, .. }) => sessions,
            other => panic!("{other:?}"),
        }
    }

    fn is_replayed(&self) {
        let mut twin = Engine::new();
        for envelope in &self.0.journal {
            let bytes = minicbor::to_vec(envelope).unwrap();
            twin.replay(&minicbor::decode(&bytes).unwrap());
        }
        assert!(twin.state() == self.0.engine.state());
    }
}

fn words(reply: &Reply) -> String {
    match reply {
        Reply::Refused(refusal) => format!("{}: {}", refusal.code.as_str(), refusal.message),
        Reply::Quote(quote) => format!("{} offers", quote.offers.len()),
        Reply::Reservation(reservation) => reservation.promise.as_str().to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn what_is_sold_on_a_line_is_asked_for_there_and_nowhere_else() {
    let mut mobile = Mobile::new();
    let mut said = String::new();
    let mut say = |who: &str, reply: Reply| said.push_str(&format!("{who}: {}\n", words(&reply)));
    say("never seen", mobile.quote(PHONE, 17, None));
    mobile.open(session(17, "s1", "10.45.0.2"));
    mobile.open(session(18, "s2", "10.99.0.3"));
    say("seen", mobile.quote(PHONE, 17, None));
    say("a tier for ports", mobile.quote(PHONE, 17, Some(1)));
    say("a tier for Rx", mobile.quote(PHONE, 17, Some(4)));
    say("another's line", mobile.quote(PHONE, 18, None));
    say("every line", mobile.quote(FLEET, 18, None));
    say("a customer of a port", mobile.quote(SHOP, 17, None));
    let held = mobile.held(PHONE, 17, 2);
    let other = mobile.held(FLEET, 18, 2);
    say("another address", mobile.confirm(&held, "10.45.0.3"));
    say("outside the list", mobile.confirm(&other, "10.99.0.3"));
    say("another's address", mobile.confirm(&other, "10.45.0.2"));
    say("its own", mobile.confirm(&held, "10.45.0.2"));
    expect![[r#"
        never seen: QOS_TRANSFERS.ENDPOINT_NOT_ALLOWED: this customer may not buy for that access
        seen: 2 offers
        a tier for ports: OUT_OF_RANGE: tier gold is not sold on this kind of access
        a tier for Rx: OUT_OF_RANGE: tier media is not sold on this kind of access
        another's line: QOS_TRANSFERS.ENDPOINT_NOT_ALLOWED: this customer may not buy for that access
        every line: 2 offers
        a customer of a port: QOS_TRANSFERS.ENDPOINT_NOT_ALLOWED: this customer may not buy for that access
        another address: QOS_TRANSFERS.ENDPOINT_NOT_ALLOWED: flow 0: the device address is not the one of the subscriber's session
        outside the list: QOS_TRANSFERS.ENDPOINT_NOT_ALLOWED: flow 0: the device address is not an endpoint of this customer
        another's address: QOS_TRANSFERS.ENDPOINT_NOT_ALLOWED: flow 0: the device address is not the one of the subscriber's session
        its own: running
    "#]]
    .assert_eq(&said);
    let Some(PolicyCommand::Desire(desired)) = mobile.0.commands.last() else { panic!("no command") };
    let access = MobileAccess { subscriber: SubscriberRef(17), apn: "internet".into() };
    assert_eq!(desired.enforcement_point, "gx");
    assert_eq!(desired.road, Some(Road::Gx { access: access.clone(), terms: gx_terms(), is_active: false }));
    mobile.0.reservation(PHONE, Command::Cancel { reservation: held.id });
    let Some(PolicyCommand::Release { access: at, .. }) = mobile.0.commands.last() else {
        panic!("no release")
    };
    assert_eq!(at.as_ref(), Some(&access));
    mobile.is_replayed();
}

#[test]
fn an_rx_access_is_asked_for_by_its_tier_and_a_port_by_none() {
    let mut mobile = Mobile::new();
    let request = mobile.0.request_for(Need::Rate(BitsPerSecond(1_000_000)), 60);
    let offers = |mobile: &mut Mobile, customer, access| {
        let request = QuoteRequest { access, ..request.clone() };
        let Reply::Quote(quote) = mobile.0.command(customer, Command::Quote(request)) else {
            panic!("refused")
        };
        (quote.offers.iter().map(|offer| offer.tier.0).collect::<Vec<_>>(), quote.id)
    };
    assert_eq!(offers(&mut mobile, SHOP, LINE).0, [1]);
    let (tiers, quote) = offers(&mut mobile, CustomerId(5), PCRF);
    assert_eq!(tiers, [4]);
    let held = mobile.0.reservation(CustomerId(5), Command::Take { offer: OfferId { quote, index: 0 } });
    assert_eq!(words(&mobile.confirm(&held, "10.46.0.9")), "running");
    let Some(PolicyCommand::Desire(desired)) = mobile.0.commands.last() else { panic!("no command") };
    assert!(
        matches!(&desired.road, Some(Road::Rx { apn: None, terms, is_active: false }) if terms.media_type == 2)
    );
}

#[test]
fn a_line_outlives_its_sessions_and_only_the_present_one_counts() {
    let mut mobile = Mobile::new();
    mobile.open(session(17, "s1", "10.45.0.2"));
    let held = mobile.held(PHONE, 17, 2);
    mobile.open(session(17, "s2", "2001:db8::"));
    mobile.close("s1");
    assert_eq!(mobile.sessions(), [session(17, "s2", "2001:db8::")]);
    assert!(words(&mobile.confirm(&held, "10.45.0.2")).ends_with("subscriber's session"));
    mobile.close("s2");
    assert_eq!(mobile.sessions(), []);
    let refused = mobile.confirm(&held, "10.45.0.2");
    expect!["QOS_TRANSFERS.ENDPOINT_NOT_ALLOWED: the subscriber has no session"].assert_eq(&words(&refused));
    assert_eq!(
        words(&mobile.quote(PHONE, 17, None)),
        "2 offers",
        "a line without a session sells the future"
    );
    let away = Session { is_away: true, ..session(17, "s3", "10.45.0.7") };
    mobile.open(away.clone());
    for refused in [mobile.confirm(&held, "10.45.0.7"), mobile.quote(PHONE, 17, None)] {
        assert!(words(&refused).ends_with("the subscriber is in another network"), "{refused:?}");
    }
    // The same session with another number and at home again; then its name under another subscriber.
    mobile.open(Session { is_away: false, number: 4, ..away });
    assert_eq!(mobile.sessions()[0].number, 4);
    assert_eq!(words(&mobile.confirm(&held, "10.45.0.7")), "running");
    mobile.open(session(18, "s3", "10.45.0.8"));
    assert_eq!(mobile.sessions(), [session(18, "s3", "10.45.0.8")]);
    let learnt = mobile.0.engine.state().learnt();
    assert_eq!((learnt.len(), learnt.attached()), (2, 1));
    mobile.is_replayed();
}

#[test]
fn two_sessions_in_turn_may_have_one_address() {
    let mut mobile = Mobile::new();
    let first = mobile.confirmed(2);
    mobile.close("s1");
    mobile.open(session(18, "s2", "10.45.0.2"));
    let held = mobile.held(FLEET, 18, 2);
    assert_eq!(words(&mobile.confirm(&held, "10.45.0.2")), "running", "the flow of a line is its own");
    mobile.open(session(17, "s3", "10.45.0.2"));
    let again = mobile.held(FLEET, 17, 2);
    assert!(words(&mobile.confirm(&again, "10.45.0.2")).contains("covered by another reservation"));
    assert!(mobile.0.get(first.id).promise.is_live());
}

#[test]
fn what_is_not_ours_or_too_long_is_not_learnt() {
    let mut mobile = Mobile::new();
    let long = "x".repeat(SESSION_NAME_BYTES_MAX);
    let other_apn = MobileAccess { subscriber: SubscriberRef(17), apn: "ims".into() };
    for session in [
        Session { access: other_apn, ..session(17, "s", "10.45.0.2") },
        session(17, &format!("{long}x"), "10.45.0.2"),
        session(17, "", "10.45.0.2"),
    ] {
        mobile.open(session);
    }
    let stranger = vec![Report::Session(SessionReport::Open(session(17, "s", "10.45.0.2")))];
    mobile.0.report(stranger);
    assert!(mobile.0.engine.state().learnt().is_empty());
    mobile.open(session(17, &long, "10.45.0.2"));
    let learnt = |mobile: &Mobile| {
        (mobile.0.engine.state().learnt().len(), mobile.0.engine.state().learnt().attached())
    };
    assert_eq!(learnt(&mobile), (1, 1));
    let name = session(0, &long, "10.0.0.1").name;
    mobile.0.report(vec![Report::Session(SessionReport::Closed { name, reason: "not yours".into() })]);
    assert_eq!(learnt(&mobile), (1, 1), "a session is closed by its own enforcement point");
}

#[test]
fn as_many_lines_are_learnt_as_the_bound_says() {
    let mut mobile = Mobile::new();
    let number = u64::try_from(LEARNT_ACCESSES_MAX).unwrap();
    let open = |n: u64| Report::Session(SessionReport::Open(session(n, &n.to_string(), "10.45.0.2")));
    let ask = |mobile: &mut Mobile, number: u64, reports: Vec<Report>| {
        mobile.0.engine.handle(T0, Input::Reports { enforcement_point: "gx".into(), number, reports });
        mobile.0.engine.take_records();
    };
    for batch in 0..20 {
        let from = batch * number / 20;
        ask(&mut mobile, batch + 1, (from..from + number / 20).map(open).collect());
    }
    ask(&mut mobile, 21, vec![open(number)]);
    let learnt = mobile.0.engine.state().learnt();
    assert_eq!(learnt.len(), LEARNT_ACCESSES_MAX);
    assert!(!learnt.is_known((FAMILY, SubscriberRef(number))));
    ask(&mut mobile, 22, vec![open(number), open(7)]);
    assert_eq!(mobile.0.engine.state().learnt().len(), LEARNT_ACCESSES_MAX);
}

#[test]
fn a_reload_keeps_what_was_learnt_and_breaks_no_promise() {
    let mut mobile = Mobile::new();
    let reservation = mobile.confirmed(2);
    let mut said = String::new();
    let mut say = |what: &str, reply: Reply| said.push_str(&format!("{what}: {}\n", words(&reply)));
    let world = |mobile: &mut Mobile, change: &dyn Fn(&mut ConfigDef)| {
        let mut wanted = mobile_config();
        change(&mut wanted);
        mobile.0.configure(wanted)
    };
    let no_lines = |config: &mut ConfigDef| {
        config.accesses.retain(|access| access.name != "internet");
        config.customers.iter_mut().for_each(|c| c.endpoints.retain(|e| !e.access.starts_with("internet")));
    };
    say("the same", world(&mut mobile, &|_| {}));
    say("without the family", world(&mut mobile, &no_lines));
    say(
        "another APN",
        world(&mut mobile, &|config| config.accesses[1].road = Some(RoadDef::Gx { apn: "corp".into() })),
    );
    say("no line of it", world(&mut mobile, &|config| config.customers[2].endpoints.clear()));
    say(
        "every line",
        world(&mut mobile, &|config| config.customers[2].endpoints[0].access = "internet/*".into()),
    );
    say("a new name", world(&mut mobile, &|config| config.tiers[1].gap_s_max = 9));
    let (before, learnt) = (mobile.sessions().len(), mobile.0.engine.state().learnt().len());
    assert_eq!((before, learnt), (1, 1));
    mobile.0.reservation(PHONE, Command::Cancel { reservation: reservation.id });
    mobile.says(&reservation, PolicyReport::Removed { at: T0 });
    // Time is what the last record says; the rest of the slot stays sold.
    mobile.0.now = T0.plus_ms(5_000);
    mobile.0.top_up(PHONE, 1);
    say("without the family, later", world(&mut mobile, &no_lines));
    assert!(mobile.0.engine.state().learnt().is_empty());
    assert_eq!(mobile.sessions(), []);
    expect![[r#"
        the same: Configured { revision: 2, changes: 0, deficits: [] }
        without the family: CONFIGURATION_REFUSED: would break promises: access internet is removed and in use: r1; customer phone loses what is in use: r1
        another APN: CONFIGURATION_REFUSED: would break promises: access internet is enforced elsewhere and in use: r1
        no line of it: CONFIGURATION_REFUSED: would break promises: customer phone loses what is in use: r1
        every line: Configured { revision: 3, changes: 1, deficits: [] }
        a new name: Configured { revision: 4, changes: 2, deficits: [] }
        without the family, later: Configured { revision: 5, changes: 4, deficits: [] }
    "#]]
    .assert_eq(&said);
    mobile.is_replayed();
}

#[test]
fn bad_configurations_of_roads_are_refused() {
    let mut mobile = Mobile::new();
    let mut said = String::new();
    type Change = fn(&mut ConfigDef);
    let cases: [Change; 8] = [
        |config| config.tiers[1].kind = TierKind::Assured,
        |config| config.tiers[3].kind = TierKind::Background,
        |config| config.accesses[1].road = Some(RoadDef::Gx { apn: "Internet".into() }),
        |config| config.accesses.push(AccessDef { name: "twin".into(), ..config.accesses[1].clone() }),
        |config| config.accesses[0].name = "internet/9".into(),
        |config| config.customers[2].endpoints[0].access = "internet".into(),
        |config| config.customers[2].endpoints[0].access = "internet/017".into(),
        |config| config.customers[2].endpoints[0].access = "shop/*".into(),
    ];
    for change in cases {
        let mut wanted = mobile_config();
        change(&mut wanted);
        said.push_str(&format!("{}\n", words(&mobile.0.configure(wanted))));
    }
    expect![[r#"
        CONFIGURATION_REFUSED: tier air: what a gateway is asked for can be no more than a target: make its kind `target`
        CONFIGURATION_REFUSED: tier media: what a gateway is asked for can be no more than a target: make its kind `target`
        CONFIGURATION_REFUSED: access internet: write its APN in lower case
        CONFIGURATION_REFUSED: access twin: APN internet is another access's already
        CONFIGURATION_REFUSED: access internet/9: its name is one that internet gives to its lines
        CONFIGURATION_REFUSED: customer phone: access internet is a family: write internet/* or internet/NUMBER of a subscriber
        CONFIGURATION_REFUSED: customer phone: there is no access internet/017
        CONFIGURATION_REFUSED: customer phone: there is no access shop/*
    "#]].assert_eq(&said);
}

fn used(reservation: &Reservation, seq: u64, slot: u64, bytes: u64, ms: (u32, u32)) -> Report {
    let mut report = reading(reservation, seq, Slot(slot), bytes, false);
    if let Report::Usage(reading) = &mut report {
        (reading.active_ms, reading.unconfirmed_ms) = ms;
    }
    report
}

/// What a leg accrues that nobody ever confirms: four slots, in the last of them half of the time confirmed.
fn unconfirmed(tier: u32) -> (Reservation, Mobile) {
    let mut mobile = Mobile::new();
    let reservation = mobile.confirmed(tier);
    let at = mobile.0.now;
    mobile.says(&reservation, PolicyReport::Accepted);
    mobile.says(&reservation, PolicyReport::Unconfirmed { at });
    assert_eq!(mobile.0.get(reservation.id).leg.state, LegState::Unconfirmed);
    let first = at.ms() / 5_000;
    for k in 0..4 {
        mobile.0.now = Timestamp((first + k + 1) * 5_000);
        let ms = if k == 3 { (2_500, 2_500) } else { (0, 5_000) };
        mobile.tell(vec![used(&reservation, k + 1, first + k, (k + 1) * 400_000, ms)]);
    }
    // The grace of the start ends no leg of which nothing more will be heard.
    mobile.0.now = T0.plus_ms(30_000);
    mobile.0.input(Input::Tick);
    (mobile.0.get(reservation.id).clone(), mobile)
}

#[test]
fn unconfirmed_time_is_paid_for_only_where_the_terms_say_so() {
    let (not_charged, mobile) = unconfirmed(2);
    let (charged, _) = unconfirmed(3);
    assert_eq!(not_charged.promise, Promise::Running);
    assert_eq!(charged.leg.state, LegState::Unconfirmed);
    assert_eq!(not_charged.meter.metered_bytes, 1_600_000);
    // A million bit/s over 20 s and 2.5 s at 0.02 EUR an Mbps hour: 111 and 14 micros.
    expect![[r#"(14, 111)"#]]
        .assert_eq(&format!("({}, {})", not_charged.money.posted.0, charged.money.posted.0));
    mobile.is_replayed();
}

#[test]
fn a_leg_that_is_withdrawn_ends_its_reservation_at_once() {
    let mut mobile = Mobile::new();
    let reservation = mobile.confirmed(2);
    let at = mobile.0.now;
    mobile.says(&reservation, PolicyReport::Active { at });
    mobile.0.now = at.plus_ms(5_000);
    let first = at.ms() / 5_000;
    let at = mobile.0.now;
    let (leg, attempt) = (reservation.leg_id(), reservation.leg.attempt);
    let withdrawn = PolicyReport::Withdrawn { at, reason: "MOVED_OUT".into() };
    let away = Session { is_away: true, ..session(17, "s1", "10.45.0.2") };
    mobile.tell(vec![
        Report::Session(SessionReport::Open(away)),
        used(&reservation, 1, first, 400_000, (5_000, 0)),
        Report::Leg { leg, attempt, report: withdrawn.clone() },
        Report::Leg { leg, attempt, report: withdrawn.clone() },
    ]);
    let ended = mobile.0.get(reservation.id).clone();
    assert_eq!(ended.promise, Promise::Ended { reason: EndReason::Terminated, at });
    assert!(matches!(mobile.0.commands.last(), Some(PolicyCommand::Release { .. })));
    let ends: Vec<_> = mobile
        .0
        .journal
        .iter()
        .filter_map(|envelope| match &envelope.record {
            tollway_core::Record::Ended(ended) => ended.detail.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(ends, ["MOVED_OUT"]);
    let mut last = used(&reservation, 2, first + 1, 400_000, (0, 0));
    if let Report::Usage(reading) = &mut last {
        reading.last = true;
    }
    mobile.tell(vec![last, Report::Leg { leg, attempt, report: PolicyReport::Removed { at } }]);
    let settled = mobile.0.get(reservation.id).clone();
    assert!(settled.settled && settled.leg.state == LegState::Absent);
    assert_eq!(settled.money.posted.0, 28, "5 s of a million bit/s");
    // Once more after the end: nothing.
    mobile.says(&reservation, withdrawn);
    assert_eq!(mobile.0.get(reservation.id), &settled);
    mobile.is_replayed();
}
