//! A market for the engine rows: one pool, one access, a rich customer.

use tollway_billing::curve::Knot;
use tollway_billing::{Curve, Tariff};
use tollway_core::config::{
    AccessDef, ChargeBy, ConfigDef, CustomerDef, EndpointDef, LegalBasis, PoolDef, SideDef, TierDef, TierKind,
};
use tollway_core::{Engine, Input, Output, Reply, RequestId};
use tollway_model::{Amount, BitsPerSecond, Currency, CustomerId, Micros, SlotLength, Timestamp};
use tollway_policy::ClassShape;

pub const T0: Timestamp = Timestamp(1_800_000_000_000);
pub const BUYER: CustomerId = CustomerId(1);

pub fn curve() -> Curve {
    let knots = [(0, 1_000_000), (700_000, 1_000_000), (850_000, 1_500_000), (1_000_000, 6_000_000)]
        .map(|(utilisation_ppm, multiplier_ppm)| Knot { utilisation_ppm, multiplier_ppm });
    Curve::new(knots.to_vec()).expect("a convex curve")
}

fn config() -> ConfigDef {
    let tier = TierDef {
        name: "gold".into(),
        kind: TierKind::Assured,
        legal_basis: LegalBasis::PrivateNetwork,
        shape: ClassShape { packet_bytes: 1500, queue_ms_max: 50, borrow: true },
        overhead_ppm: 80_000,
        gap_s_max: 3,
        start_grace_s: 10,
        unseen_free_s: 120,
        rate_offers: ChargeBy::Reserved,
        bytes_offers: ChargeBy::Delivered,
        rate_min: BitsPerSecond(1_000),
        rate_max: BitsPerSecond(10_000_000_000),
        notice_s: 0,
        cancel_fee_ppm: 0,
        tariff: Tariff {
            name: "bench".into(),
            currency: Currency::EUR,
            mbps_hour: Micros(20_000),
            gb: Micros(50_000),
            setup: Micros(0),
            curve: curve(),
        },
        gx: None,
        rx: None,
        charge_unconfirmed: false,
    };
    let side = |port: &str| SideDef { port: port.into(), pools: vec!["link".into()] };
    ConfigDef {
        pools: vec![PoolDef {
            name: "link".into(),
            up: BitsPerSecond(1_000_000_000_000),
            down: BitsPerSecond(1_000_000_000_000),
            sell_share_ppm: 1_000_000,
            hold_share_ppm: 1_000_000,
        }],
        tiers: vec![tier],
        accesses: vec![AccessDef {
            name: "line".into(),
            enforcement_point: "router".into(),
            up: side("wan0"),
            down: side("lan0"),
            price_pool: "link".into(),
            subscriber: "s".into(),
            road: None,
        }],
        customers: vec![CustomerDef {
            name: "buyer".into(),
            currency: Currency::EUR,
            endpoints: vec![EndpointDef {
                access: "line".into(),
                addresses: vec!["10.0.0.0/8".parse().expect("a prefix")],
            }],
        }],
    }
}

pub fn engine() -> Engine {
    let mut engine = Engine::new();
    let slot_length = SlotLength::from_secs(60).expect("60 divides a day");
    engine.handle(T0, Input::MakeMarket { name: "bench".into(), slot_length });
    engine.handle(T0, Input::Configure { request: RequestId(0), base: 0, config: config() });
    let amount = Amount::new(1_000_000_000_000_000, Currency::EUR);
    engine.handle(
        T0,
        Input::TopUp {
            request: RequestId(0),
            key: None,
            customer: BUYER,
            amount,
            actor: "bench".into(),
            reason: "bench".into(),
        },
    );
    engine.handle(
        T0,
        Input::AdapterConnected {
            enforcement_point: config().accesses[0].enforcement_point.clone(),
            connection: 1,
        },
    );
    drain(&mut engine);
    engine
}

/// Records and outputs leave, as the driver would take them; the last reply is returned.
pub fn drain(engine: &mut Engine) -> Option<Reply> {
    drop(engine.take_records());
    let mut last = None;
    while let Some(output) = engine.poll_output() {
        if let Output::Reply { reply, .. } = output {
            last = Some(reply);
        }
    }
    last
}
