//! One golden encoding per kind and version of record. A change here is a change of the journal's format:
//! never mend a golden, add a version. New kinds are blessed with `UPDATE_EXPECT=1`.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use expect_test::expect_file;
use tollway_billing::{Curve, PriceSegment, Tariff};
use tollway_core::config::{
    AccessDef, Change, ChargeBy, CustomerDef, EndpointDef, LegalBasis, PoolDef, RoadDef, SideDef, TierDef,
    TierKind,
};
use tollway_core::offer::{Need, Offer, Quote, QuoteRequest, Terms, Variant, When};
use tollway_core::record::{
    Answered, Configured, Deficit, DeficitRun, Ended, Fact, FloorFact, Held, LegsTold, MarketMade, Reported,
    SessionFact, UsageFact,
};
use tollway_core::reservation::{EndReason, LegState};
use tollway_core::{Code, Record, Refusal, Reply, Reservation};
use tollway_model::{
    AccessId, Amount, BitsPerSecond, Currency, CustomerId, Direction, Flow, LegId, Micros, PoolId, Protocol,
    QuoteId, ReservationId, Schedule, Segment, Slot, SlotLength, TierId, Timestamp, Window,
};
use tollway_policy::{
    ClassShape, DeviceAddress, GxTerms, Metering, MobileAccess, PolicyReport, PortReading, Reading, RxTerms,
    Session, SessionName, SessionReport, SlotReading, Sponsor, SubscriberRef,
};

const T: Timestamp = Timestamp(1_800_000_000_000);
const LEG: LegId = LegId { reservation: ReservationId(9), index: 0 };

fn offer() -> Offer {
    let window = Window::new(T, T.plus_ms(20_000));
    let segments = [(0, 15_000, 16_000_000), (15_000, 20_000, 18_000_000)].map(|(from, until, rate)| {
        Segment { window: Window::new(T.plus_ms(from), T.plus_ms(until)), rate: BitsPerSecond(rate) }
    });
    let priced = segments.map(|segment| PriceSegment {
        window: segment.window,
        rate: segment.rate,
        unit_price: Micros(50_000),
        multiplier_ppm: 1_250_000,
    });
    Offer {
        index: 1,
        variant: Variant::Later,
        tier: TierId(2),
        tier_revision: 3,
        access: AccessId(4),
        direction: Direction::Up,
        window,
        schedule: Schedule::from_segments(segments).unwrap(),
        bytes: Some(40_000_000),
        terms: Terms {
            kind: TierKind::Assured,
            charge_by: ChargeBy::Delivered,
            shape: ClassShape { packet_bytes: 1500, queue_ms_max: 50, borrow: true },
            start_grace_ms: 10_000,
            unseen_free_ms: 120_000,
            gap_ms_max: 3_000,
            notice_ms: 0,
            cancel_fee_ppm: 100_000,
            overhead_ppm: 80_000,
            charge_unconfirmed: false,
        },
        segments: priced.to_vec(),
        setup: Micros(10),
        total: Amount::new(2_710, Currency::EUR),
        subscriber: None,
    }
}

fn flow() -> Flow {
    Flow {
        protocol: Protocol::Udp,
        device: "2001:db8::2".parse().unwrap(),
        device_port: Some(40_000),
        remote: "2001:db8:1::1".parse().unwrap(),
        remote_port: 443,
    }
}

fn configured() -> Configured {
    let pool = PoolDef {
        name: "shared".into(),
        up: BitsPerSecond(1),
        down: BitsPerSecond(2),
        sell_share_ppm: 3,
        hold_share_ppm: 4,
    };
    let tier = TierDef {
        name: "gold".into(),
        kind: TierKind::Target,
        legal_basis: LegalBasis::Specialised { why: "till".into() },
        shape: ClassShape { packet_bytes: 1200, queue_ms_max: 40, borrow: false },
        overhead_ppm: 1,
        gap_s_max: 2,
        start_grace_s: 3,
        unseen_free_s: 4,
        rate_offers: ChargeBy::Reserved,
        bytes_offers: ChargeBy::Delivered,
        rate_min: BitsPerSecond(5),
        rate_max: BitsPerSecond(6),
        notice_s: 7,
        cancel_fee_ppm: 8,
        tariff: Tariff {
            name: "t".into(),
            currency: Currency::EUR,
            mbps_hour: Micros(9),
            gb: Micros(10),
            setup: Micros(11),
            curve: Curve::flat(),
        },
        gx: None,
        rx: None,
        charge_unconfirmed: false,
    };
    let side = |port: &str| SideDef { port: port.into(), pools: vec!["shared".into()] };
    let access = AccessDef {
        name: "shop".into(),
        enforcement_point: "router1".into(),
        up: side("wan0"),
        down: side("lan0"),
        price_pool: "shared".into(),
        subscriber: "line-1".into(),
        road: None,
    };
    let customer = CustomerDef {
        name: "pos".into(),
        currency: Currency::EUR,
        endpoints: vec![EndpointDef {
            access: "shop".into(),
            addresses: vec!["10.0.0.0/24".parse().unwrap(), "2001:db8::/64".parse().unwrap()],
        }],
    };
    let run = DeficitRun { from: Slot(1), until: Slot(2), excess_bps: 3 };
    Configured {
        revision: 2,
        changes: vec![
            Change::Pool(PoolId(1), pool),
            Change::PoolRemoved(PoolId(2)),
            Change::Tier(TierId(1), 2, tier),
            Change::TierWithdrawn(TierId(2)),
            Change::Access(AccessId(1), access),
            Change::AccessRemoved(AccessId(2)),
            Change::Customer(CustomerId(1), customer),
            Change::CustomerRemoved(CustomerId(2)),
        ],
        deficits: vec![Deficit { pool: PoolId(1), direction: Direction::Down, runs: vec![run] }],
    }
}

fn usage() -> UsageFact {
    let counters = Reading { bytes: 1_000_000, packets: 700, drops: 3 };
    let reading = SlotReading {
        leg: LEG,
        attempt: 2,
        incarnation: 77,
        seq: 5,
        slot: Slot(360_000_000),
        sold: counters,
        reverse: Reading { bytes: 50_000, packets: 900, drops: 0 },
        active_ms: 5_000,
        busy_ms: 4_000,
        gap_ms_max: 12,
        seen: true,
        last: false,
        at: T,
        unconfirmed_ms: 0,
    };
    UsageFact {
        reading,
        delivered_bytes: 900_000,
        reverse_bytes: 40_000,
        promised_bytes: 950_000,
        kept_ms: 5_000,
        excused_ms: 0,
        charged_bytes: 900_000,
        segment: 1,
        posted: Micros(45),
        covered_until: T,
        is_placed: true,
        covers_from: None,
        unconfirmed_ms: 0,
    }
}

fn port() -> PortReading {
    PortReading {
        port: "wan0".into(),
        direction: Direction::Up,
        slot: Slot(360_000_000),
        incarnation: 78,
        default_class: Reading { bytes: 1, packets: 2, drops: 3 },
        default_rate_min: BitsPerSecond(4),
        backlog_bytes: 5,
        direct_packets: 6,
        up: true,
        delivered_bytes: 7,
        busy_ms: 8,
    }
}

/// As a port reading is written since it is judged; those before it have no judgement.
fn floor_reported() -> Reported {
    let (floor, measured) = (BitsPerSecond(19_400_000), BitsPerSecond(19_399_000));
    let judged = Some(FloorFact { floor, measured, is_kept: false });
    Reported { enforcement_point: "router1".into(), number: 13, facts: vec![Fact::Port(port(), judged)] }
}

/// As a reading is written since it says which slots before it had none.
fn missed_reported() -> Reported {
    let missed = UsageFact { covers_from: Some(Timestamp(T.0 - 15_000)), ..usage() };
    Reported { enforcement_point: "router1".into(), number: 14, facts: vec![Fact::Usage(missed)] }
}

fn reported() -> Reported {
    let leg = |report: PolicyReport| Fact::Leg { leg: LEG, attempt: 2, report };
    Reported {
        enforcement_point: "router1".into(),
        number: 12,
        facts: vec![
            leg(PolicyReport::Accepted),
            leg(PolicyReport::Active { at: T }),
            leg(PolicyReport::Refused { reason: "no class".into() }),
            leg(PolicyReport::Lost { at: T, reason: "port down".into() }),
            leg(PolicyReport::Removed { at: T }),
            Fact::Usage(usage()),
            Fact::Port(port(), None),
        ],
    }
}

fn records() -> Vec<Record> {
    let id = ReservationId(9);
    let request = QuoteRequest {
        access: AccessId(4),
        direction: Direction::Down,
        tier: Some(TierId(2)),
        need: Need::Rate(BitsPerSecond(5_000_000)),
        start: Some(When::At(T)),
        end: When::In(60_000),
        subscriber: None,
    };
    let quote = Quote {
        id: QuoteId(3),
        customer: CustomerId(1),
        valid_until: T.plus_ms(120_000),
        request,
        offers: vec![offer()],
        is_counter: true,
        replaces: Some(QuoteId(2)),
    };
    let held = Held {
        reservation: id,
        customer: CustomerId(1),
        quote: QuoteId(3),
        offer: offer(),
        expires: T.plus_ms(120_000),
    };
    let reservation = Reservation::open(T, &held);
    let mut untold = reservation.clone();
    untold.fold(T, &Record::Confirmed { reservation: id, missing: Some("router1".into()) });
    let refusal = Refusal {
        code: Code::InsufficientFunds,
        message: "0.5 EUR is missing".into(),
        quote: Some(QuoteId(3)),
        offers: vec![offer()],
        missing: Some(Amount::new(500_000, Currency::EUR)),
        advice: None,
    };
    let answered = |reply: Reply| {
        Record::Answered(Answered {
            customer: CustomerId(1),
            key: [7; 16],
            request: 8,
            reservation: Some(id),
            reply,
        })
    };
    let reason = EndReason::Cancelled;
    vec![
        Record::MarketMade(MarketMade { name: "lab".into(), slot_length: SlotLength::from_secs(5).unwrap() }),
        Record::Configured(configured()),
        Record::Quoted(quote.clone()),
        Record::Held(held),
        Record::HoldExpired { reservation: id },
        Record::Confirmed { reservation: id, missing: None },
        Record::FlowsBound { reservation: id, flows: vec![flow()] },
        Record::Started { reservation: id },
        Record::LegRetried { leg: LEG, attempt: 3 },
        Record::Reported(reported()),
        Record::Reported(floor_reported()),
        Record::Ended(Ended { reservation: id, reason, fee: Micros(12), detail: Some("why".into()) }),
        Record::Settled { reservation: id, voided: Micros(13), timed_out: true },
        Record::ToppedUp {
            customer: CustomerId(1),
            amount: Amount::new(1_000_000, Currency::EUR),
            actor: "noc".into(),
            reason: "play".into(),
        },
        answered(Reply::Quote(quote)),
        answered(Reply::Reservation(Box::new(reservation))),
        answered(Reply::Refused(refusal)),
        answered(Reply::ToppedUp { customer: CustomerId(1), balance: Amount::new(5, Currency::EUR) }),
        answered(Reply::Configured { revision: 2, changes: 3, deficits: Vec::new() }),
        Record::LegsTold(LegsTold { enforcement_point: "router1".into(), legs: vec![LEG] }),
        Record::Confirmed { reservation: id, missing: Some("router1".into()) },
        Record::Reported(missed_reported()),
        answered(Reply::Reservation(Box::new(untold))),
        Record::Configured(configured_roads()),
        answered(Reply::Reservation(Box::new(reservation_on_a_line()))),
        Record::Reported(reported_by_a_gateway()),
    ]
}

/// As tiers and accesses are written since they may have a road.
fn configured_roads() -> Configured {
    let mut roads = configured();
    roads.deficits.clear();
    let changes = std::mem::take(&mut roads.changes);
    let access = |id: u32, access: &AccessDef, road| {
        Change::Access(AccessId(id), AccessDef { road: Some(road), ..access.clone() })
    };
    for change in &changes {
        match change {
            Change::Tier(id, revision, tier) => {
                let (gx, rx) = (Some(gx_terms()), Some(rx_terms()));
                let tier = TierDef { gx, rx, charge_unconfirmed: true, ..tier.clone() };
                roads.changes.push(Change::Tier(*id, *revision, tier));
            }
            Change::Access(_, def) => roads.changes.extend([
                access(5, def, RoadDef::Gx { apn: "internet".into() }),
                access(6, def, RoadDef::Rx { apn: Some("ims".into()) }),
                access(7, def, RoadDef::Rx { apn: None }),
            ]),
            _ => {}
        }
    }
    roads
}

fn gx_terms() -> GxTerms {
    GxTerms {
        qci: 2,
        priority_level: 9,
        allow_priority: Some("rescue".into()),
        precedence: 100,
        rating_group: 7,
        service_identifier: Some(8),
        metering: Metering::DurationVolume,
        online: true,
        offline: false,
        mbr_bps_min: 1_000_000,
        usage_bytes: Some(5_000_000),
    }
}

fn rx_terms() -> RxTerms {
    let sponsor = Sponsor { sponsor: "shop".into(), provider: "pos".into() };
    RxTerms { media_type: 2, application: Some("till".into()), sponsor: Some(sponsor), usage_bytes: Some(9) }
}

/// As an offer, its terms and its reservation are written on a line whose leg nobody confirms.
fn reservation_on_a_line() -> Reservation {
    let mut offer = offer();
    offer.subscriber = Some(SubscriberRef(17));
    offer.terms.charge_unconfirmed = true;
    let (reservation, expires) = (ReservationId(9), T.plus_ms(120_000));
    let held = Held { reservation, customer: CustomerId(1), quote: QuoteId(3), offer, expires };
    let mut reservation = Reservation::open(T, &held);
    reservation.leg.state = LegState::Unconfirmed;
    reservation
}

fn reported_by_a_gateway() -> Reported {
    let leg = |report: PolicyReport| Fact::Leg { leg: LEG, attempt: 2, report };
    let name = SessionName {
        session_id: "pcef;1;2".into(),
        origin_host: "pcef.test".into(),
        origin_realm: "test".into(),
    };
    let session = |v4: Option<&str>, v6: Option<&str>| Session {
        name: name.clone(),
        access: MobileAccess { subscriber: SubscriberRef(17), apn: "internet".into() },
        address: DeviceAddress {
            v4: v4.map(|text| text.parse().unwrap()),
            v6: v6.map(|text| (text.parse().unwrap(), 64)),
        },
        number: 3,
        has_extended: true,
        is_away: true,
    };
    let fact =
        |report| Fact::Session(SessionFact { family: AccessId(5), subscriber: SubscriberRef(17), report });
    let mut half = usage();
    (half.reading.active_ms, half.reading.unconfirmed_ms) = (0, 2_500);
    (half.kept_ms, half.unconfirmed_ms) = (0, 2_500);
    Reported {
        enforcement_point: "gx".into(),
        number: 14,
        facts: vec![
            fact(SessionReport::Open(session(Some("10.45.0.2"), None))),
            fact(SessionReport::Open(session(Some("10.45.0.2"), Some("2001:db8::")))),
            fact(SessionReport::Closed { name: name.clone(), reason: "CCR-T".into() }),
            leg(PolicyReport::Unconfirmed { at: T }),
            leg(PolicyReport::Withdrawn { at: T, reason: "MOVED_OUT".into() }),
            Fact::Usage(half),
        ],
    }
}

#[test]
fn every_kind_has_a_golden_encoding() {
    let mut text = String::new();
    let mut kinds = std::collections::BTreeSet::new();
    for record in records() {
        let bytes = minicbor::to_vec(&record).unwrap();
        assert_eq!(minicbor::decode::<Record>(&bytes).unwrap(), record);
        let (kind, name) = record.kind();
        kinds.insert(kind);
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        text.push_str(&format!("{kind} {name} v{}\n{hex}\n", Record::VERSION));
    }
    assert_eq!(kinds, (1..=Record::KIND_MAX).collect(), "a kind without a golden");
    expect_file!["golden/records.txt"].assert_eq(&text);
}

#[test]
fn truncated_and_garbled_records_are_errors() {
    for record in records() {
        let bytes = minicbor::to_vec(&record).unwrap();
        for cut in 0..bytes.len() {
            assert!(minicbor::decode::<Record>(&bytes[..cut]).is_err(), "{record:?} cut at {cut}");
        }
        // A flipped byte may decode to another record; the journal's checksum finds it. It must not panic.
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0xff;
            let _ = minicbor::decode::<Record>(&flipped);
        }
    }
}
