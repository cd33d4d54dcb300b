//! The operator that is simulated: three pools, four accesses at two enforcement points, three customers.

use crate::gx;
use tollway_billing::curve::Knot;
use tollway_billing::{Curve, Tariff};
use tollway_core::config::{
    AccessDef, ChargeBy, ConfigDef, CustomerDef, EndpointDef, LegalBasis, PoolDef, RoadDef, SideDef, TierDef,
    TierKind,
};
use tollway_model::{BitsPerSecond, Currency, Micros};
use tollway_policy::{ClassShape, GxTerms, Metering};

/// Enforcement points, one agent each.
pub const POINTS: [&str; 2] = ["router1", "router2"];

/// Customers and the accesses that each may name.
pub const CUSTOMERS: [(&str, &[&str]); 3] =
    [("shop", &["shop", "till"]), ("rival", &["till", "depot", "shop"]), ("bulk", &["depot", "spare"])];

pub fn pool(name: &str, bps: u64, sell_share_ppm: u32) -> PoolDef {
    PoolDef {
        name: name.into(),
        up: BitsPerSecond(bps),
        down: BitsPerSecond(bps),
        sell_share_ppm,
        hold_share_ppm: 400_000,
    }
}

pub fn tier(name: &str, price: i64) -> TierDef {
    let knots = [(0, 1_000_000), (700_000, 1_000_000), (850_000, 1_500_000), (1_000_000, 6_000_000)]
        .map(|(utilisation_ppm, multiplier_ppm)| Knot { utilisation_ppm, multiplier_ppm });
    TierDef {
        name: name.into(),
        kind: TierKind::Assured,
        legal_basis: LegalBasis::SubscriberChoice,
        shape: ClassShape { packet_bytes: 1500, queue_ms_max: 50, borrow: true },
        overhead_ppm: 80_000,
        gap_s_max: 3,
        start_grace_s: 10,
        unseen_free_s: 10,
        rate_offers: ChargeBy::Reserved,
        bytes_offers: ChargeBy::Delivered,
        rate_min: BitsPerSecond(64_000),
        rate_max: BitsPerSecond(30_000_000),
        notice_s: 20,
        cancel_fee_ppm: 100_000,
        tariff: Tariff {
            name: format!("{name}-{price}"),
            currency: Currency::EUR,
            mbps_hour: Micros(price),
            gb: Micros(price * 2),
            setup: Micros(price / 100),
            curve: Curve::new(knots.to_vec()).unwrap_or_else(|_| Curve::flat()),
        },
        gx: None,
        rx: None,
        charge_unconfirmed: false,
    }
}

fn access(name: &str, point: &str, pools: &[&str]) -> AccessDef {
    let side = |port: &str| SideDef {
        port: format!("{name}-{port}"),
        pools: pools.iter().map(|p| (*p).to_owned()).collect(),
    };
    AccessDef {
        name: name.into(),
        enforcement_point: point.into(),
        up: side("wan"),
        down: side("lan"),
        price_pool: pools.last().copied().unwrap_or("core").into(),
        subscriber: format!("line-{name}"),
        road: None,
    }
}

pub fn spare() -> AccessDef {
    access("spare", "router2", &["west"])
}

fn customer(name: &str, accesses: &[&str]) -> CustomerDef {
    let endpoint = |access: &&str| EndpointDef {
        access: (*access).to_owned(),
        addresses: ["10.10.0.0/24".parse().expect("a prefix")].to_vec(),
    };
    CustomerDef {
        name: name.into(),
        currency: Currency::EUR,
        endpoints: accesses.iter().map(endpoint).collect(),
    }
}

/// Who buys on lines of the mobile gateway.
pub const PHONE: &str = "phone";

/// The operator's configuration, with or without a mobile gateway.
pub fn config_of(mobile: bool) -> ConfigDef {
    let mut config = config();
    if !mobile {
        return config;
    }
    let air = |name: &str, charge_unconfirmed| TierDef {
        kind: TierKind::Target,
        gx: Some(GxTerms {
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
            usage_bytes: Some(200_000),
        }),
        charge_unconfirmed,
        ..tier(name, 1_500_000)
    };
    config.tiers.push(air("air", false));
    config.tiers.push(air("trust", true));
    config.accesses.push(AccessDef {
        road: Some(RoadDef::Gx { apn: gx::APN.to_owned() }),
        ..access(gx::APN, gx::POINT, &["core"])
    });
    let endpoint = EndpointDef { access: format!("{}/*", gx::APN), addresses: Vec::new() };
    config.customers.push(CustomerDef {
        name: PHONE.to_owned(),
        currency: Currency::EUR,
        endpoints: vec![endpoint],
    });
    config
}

pub fn config() -> ConfigDef {
    ConfigDef {
        pools: vec![
            pool("core", 40_000_000, 500_000),
            pool("shop-line", 20_000_000, 800_000),
            pool("west", 12_000_000, 1_000_000),
        ],
        tiers: vec![tier("gold", 2_000_000), tier("silver", 900_000)],
        accesses: vec![
            access("shop", "router1", &["shop-line", "core"]),
            access("till", "router1", &["core"]),
            access("depot", "router2", &["west", "core"]),
            spare(),
        ],
        customers: CUSTOMERS.iter().map(|(name, accesses)| customer(name, accesses)).collect(),
    }
}
