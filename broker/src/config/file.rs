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
    pub(super) gx: Option<Gx>,
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
    /// How its rules look at a gateway; present: it is sold on learnt accesses, and only there.
    #[serde(default)]
    pub(super) gx: Option<Spanned<TierGx>>,
    /// Whether time counts in which a peer that never says more has accepted a leg. Default: false.
    #[serde(default)]
    pub(super) charge_unconfirmed: Option<bool>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum Metering {
    Duration,
    Volume,
    DurationVolume,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TierGx {
    pub(super) qci: u8,
    pub(super) priority_level: u8,
    /// Why a class for prioritised services is asked for.
    #[serde(default)]
    pub(super) allow_priority: Option<String>,
    /// Default 100.
    #[serde(default)]
    pub(super) precedence: Option<u32>,
    pub(super) rating_group: u32,
    #[serde(default)]
    pub(super) service_identifier: Option<u32>,
    /// Default volume.
    #[serde(default)]
    pub(super) metering: Option<Metering>,
    /// Default false.
    #[serde(default)]
    pub(super) online: bool,
    /// Default true.
    #[serde(default)]
    pub(super) offline: Option<bool>,
    /// Default 0.
    #[serde(default)]
    pub(super) mbr_bps_min: Option<Spanned<u64>>,
    /// Default: no usage is asked for.
    #[serde(default)]
    pub(super) usage_bytes: Option<Spanned<u64>>,
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
    /// May be left out where a session says which addresses there are.
    #[serde(default)]
    pub(super) addresses: Option<Spanned<Vec<Text>>>,
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

/// Gateways that ask us what holds for a subscriber.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gx {
    /// Default gx.
    #[serde(default)]
    pub(super) enforcement_point: Option<Text>,
    pub(super) origin_host: Text,
    pub(super) origin_realm: Text,
    /// For plain TCP.
    #[serde(default)]
    pub(super) listen: Option<Text>,
    /// For TLS below Diameter.
    #[serde(default)]
    pub(super) listen_tls: Option<Text>,
    #[serde(default)]
    pub(super) tls: Option<GxTls>,
    /// Default: the addresses listened on.
    #[serde(default)]
    pub(super) host_ip_addresses: Option<Spanned<Vec<Text>>>,
    /// Default: not looked at.
    #[serde(default)]
    pub(super) home_plmns: Vec<Text>,
    /// A CSV file, beside this one.
    pub(super) profiles: Text,
    pub(super) apns: Spanned<Vec<GxApn>>,
    #[serde(default)]
    pub(super) peers: Vec<GxPeer>,
    #[serde(default)]
    pub(super) gateways: Vec<GxGateway>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GxTls {
    pub(super) cert: Text,
    pub(super) key: Text,
    pub(super) client_ca: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GxApn {
    pub(super) name: Text,
    pub(super) up: Spanned<Vec<Text>>,
    pub(super) down: Spanned<Vec<Text>>,
    pub(super) price_pool: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GxPeer {
    pub(super) origin_host: Text,
    /// Default: ours.
    #[serde(default)]
    pub(super) origin_realm: Option<Text>,
    /// Where to connect to it, as host:port. Default: it connects to us.
    #[serde(default)]
    pub(super) dial: Option<Text>,
    /// Whether to connect by TLS. Default false.
    #[serde(default)]
    pub(super) tls: bool,
    /// Where it may connect from by plain TCP. Default: it proves itself by certificate.
    #[serde(default)]
    pub(super) addresses: Vec<Text>,
    /// Realms that are reached through it: it is a relay.
    #[serde(default)]
    pub(super) relays: Vec<Text>,
    /// Default 30.
    #[serde(default)]
    pub(super) watchdog_s: Option<Spanned<u64>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum GxReports {
    Full,
    None,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum GxRuleTimes {
    Kept,
    Ignored,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GxGateway {
    /// `*` for all that are not named.
    pub(super) origin_host: Text,
    /// Default full.
    #[serde(default)]
    pub(super) reports: Option<GxReports>,
    /// Default kept.
    #[serde(default)]
    pub(super) rule_times: Option<GxRuleTimes>,
    /// RARs a second; 0: no limit. Default 200.
    #[serde(default)]
    pub(super) rar_rate_max: Option<Spanned<u32>>,
    /// Default 5.
    #[serde(default)]
    pub(super) rar_timeout_s: Option<Spanned<u64>>,
    /// Default 16.
    #[serde(default)]
    pub(super) filters_max: Option<Spanned<u8>>,
    /// Whether rates above 32 bits may be agreed on. Default true.
    #[serde(default)]
    pub(super) extended_bandwidth: Option<bool>,
}
