//! The file's form, as serde reads it. Places are kept where a value can be wrong.

use serde::Deserialize;
use toml::Spanned;

pub(super) type Text = Spanned<String>;

/// Read table by table in `shape.rs`.
pub(super) struct File {
    pub(super) market: Market,
    pub(super) serve: Serve,
    pub(super) pool: Vec<Pool>,
    pub(super) tariff: Vec<Tariff>,
    pub(super) tier: Vec<Tier>,
    pub(super) access: Vec<Access>,
    pub(super) customer: Vec<Customer>,
    pub(super) key: Vec<Spanned<Key>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Market {
    pub(super) name: Text,
    /// Fixed when the market is made.
    pub(super) slot_s: Spanned<u32>,
    /// Of tariffs and customers that name none.
    #[serde(default)]
    pub(super) currency: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Serve {
    pub(super) http: Text,
    pub(super) grpc: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    pub(super) name: Text,
    pub(super) up_bps: Spanned<u64>,
    pub(super) down_bps: Spanned<u64>,
    pub(super) sell_share_ppm: Spanned<u32>,
    /// Default 250,000: a quarter of what is on sale.
    #[serde(default)]
    pub(super) hold_share_ppm: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tariff {
    pub(super) name: Text,
    #[serde(default)]
    pub(super) currency: Option<Text>,
    pub(super) mbps_hour_micros: Spanned<i64>,
    pub(super) gb_micros: Spanned<i64>,
    /// Default 0.
    #[serde(default)]
    pub(super) setup_micros: Option<Spanned<i64>>,
    /// Pairs of utilisation and multiplier, in ppm. Default: flat.
    #[serde(default)]
    pub(super) curve: Option<Spanned<Vec<(u32, u32)>>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Assured,
    Target,
    Background,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum LegalBasis {
    Specialised { why: Text },
    SubscriberChoice {},
    PrivateNetwork {},
    OutsideEu {},
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChargeBy {
    Reserved,
    Delivered,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum Excess {
    BestEffort,
    Shape,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tier {
    pub(super) name: Text,
    pub(super) kind: Kind,
    pub(super) legal_basis: LegalBasis,
    pub(super) tariff: Text,
    /// Default 1,500.
    #[serde(default)]
    pub(super) packet_bytes: Option<Spanned<u32>>,
    /// Default 80,000: 40 bytes of header in 1,500 and the acknowledged start-up of a TCP flow.
    #[serde(default)]
    pub(super) overhead_ppm: Option<Spanned<u32>>,
    /// Default 50.
    #[serde(default)]
    pub(super) queue_ms_max: Option<Spanned<u32>>,
    /// Default 3.
    #[serde(default)]
    pub(super) gap_s_max: Option<Spanned<u32>>,
    /// Default 10.
    #[serde(default)]
    pub(super) start_grace_s: Option<Spanned<u32>>,
    /// Default 120.
    #[serde(default)]
    pub(super) unseen_free_s: Option<Spanned<u32>>,
    /// Default reserved.
    #[serde(default)]
    pub(super) charge_by_rate: Option<ChargeBy>,
    /// Default delivered.
    #[serde(default)]
    pub(super) charge_by_bytes: Option<ChargeBy>,
    /// Default 64,000.
    #[serde(default)]
    pub(super) rate_min_bps: Option<Spanned<u64>>,
    /// Default: the most that any need may name.
    #[serde(default)]
    pub(super) rate_max_bps: Option<Spanned<u64>>,
    /// Default best_effort.
    #[serde(default)]
    pub(super) excess: Option<Excess>,
    /// Default 0: free until the start.
    #[serde(default)]
    pub(super) notice_s: Option<Spanned<u32>>,
    /// Default 0.
    #[serde(default)]
    pub(super) cancel_fee_ppm: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Side {
    pub(super) port: Text,
    pub(super) pools: Spanned<Vec<Text>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Access {
    pub(super) name: Text,
    pub(super) enforcement_point: Text,
    pub(super) up: Side,
    pub(super) down: Side,
    pub(super) price_pool: Text,
    /// Default: the access's name.
    #[serde(default)]
    pub(super) subscriber: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Endpoint {
    pub(super) access: Text,
    pub(super) addresses: Spanned<Vec<Text>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Customer {
    pub(super) name: Text,
    #[serde(default)]
    pub(super) currency: Option<Text>,
    #[serde(default)]
    pub(super) endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    /// For logs and records. Default: the customer, the agent, or `noc`.
    #[serde(default)]
    pub(super) name: Option<Text>,
    pub(super) sha256: Text,
    #[serde(default)]
    pub(super) customer: Option<Text>,
    #[serde(default)]
    pub(super) noc: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) agent: Option<Text>,
}
