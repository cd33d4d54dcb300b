//! The scenario as it stands in the file. `docs/lab.md` describes each key for its reader.

use super::units::{BufferSize, Bytes, Dscp, Euros, Rate, Share, Span};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use toml::Spanned;

/// Where the line is emulated.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The kernel's netem where this host has it, else the lab's own hop.
    #[default]
    Auto,
    User,
    Netem,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub lab: Lab,
    pub line: Line,
    #[serde(default)]
    pub host: BTreeMap<Spanned<String>, Host>,
    pub market: Option<Spanned<Market>>,
    #[serde(default)]
    pub load: BTreeMap<Spanned<String>, Spanned<Load>>,
    pub act: Vec<Spanned<Act>>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Lab {
    pub name: Spanned<String>,
    #[serde(default)]
    pub title: Option<String>,
    #[serde(default = "default_seed")]
    pub seed: u64,
    #[serde(default)]
    pub backend: Backend,
    #[serde(default)]
    pub tcp: Congestion,
}

/// How the lab's TCP reacts to loss.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "snake_case")]
pub enum Congestion {
    #[default]
    Cubic,
    Reno,
    Bbr,
}

impl Congestion {
    pub fn name(self) -> &'static str {
        match self {
            Congestion::Cubic => "cubic",
            Congestion::Reno => "reno",
            Congestion::Bbr => "bbr",
        }
    }
}

fn default_seed() -> u64 {
    1
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Line {
    pub up: Spanned<LineDirection>,
    pub down: Spanned<LineDirection>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct LineDirection {
    pub rate: Spanned<Rate>,
    pub delay: Span,
    pub buffer: BufferSize,
    /// Bytes added to each frame when it is counted; frames already carry their 14 Ethernet bytes.
    #[serde(default)]
    pub overhead: u32,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Host {
    pub address: Option<Spanned<Ipv4Addr>>,
    /// Makes its owner a customer of the market with this much in the wallet.
    pub wallet: Option<Euros>,
    /// Round trips to the server, all the time.
    #[serde(default)]
    pub probe: bool,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Market {
    #[serde(default = "default_slot")]
    pub slot: Span,
    #[serde(default = "default_sell_share")]
    pub sell_share: Share,
    #[serde(default = "default_hold_share")]
    pub hold_share: Share,
    /// Share of the line's rate that the agent shapes to; at least 3 % must stay free below the line.
    #[serde(default = "default_shape_share")]
    pub shape_share: Spanned<Share>,
    pub mbps_hour: Euros,
    pub gb: Euros,
    #[serde(default = "default_rate_max")]
    pub rate_max: Rate,
    /// What a bytes offer allows for headers.
    #[serde(default = "default_overhead")]
    pub overhead: Share,
}

fn default_slot() -> Span {
    Span(5_000_000_000)
}
fn default_sell_share() -> Share {
    Share(500_000)
}
fn default_hold_share() -> Share {
    Share(250_000)
}
fn default_shape_share() -> Spanned<Share> {
    Spanned::new(0..0, Share(970_000))
}
fn default_rate_max() -> Rate {
    Rate(30_000_000)
}
fn default_overhead() -> Share {
    Share(80_000)
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum LoadKind {
    Tcp,
    Udp,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Load {
    pub kind: LoadKind,
    pub from: Spanned<String>,
    /// Streams of a `tcp` load.
    pub streams: Option<Spanned<u32>>,
    /// Layer-3 rate of a `udp` load.
    pub rate: Option<Spanned<Rate>>,
    pub dscp: Option<Spanned<Dscp>>,
}

/// Which part of `result.json` an act fills.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Baseline,
    Paid,
    Idle,
    CounterOffer,
    Kill,
    Outage,
}

impl Role {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Role::Baseline => "baseline",
            Role::Paid => "paid",
            Role::Idle => "idle",
            Role::CounterOffer => "counter_offer",
            Role::Kill => "kill",
            Role::Outage => "outage",
        }
    }
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Act {
    pub name: Spanned<String>,
    pub title: String,
    pub role: Option<Role>,
    #[serde(default)]
    pub load: Vec<Spanned<String>>,
    #[serde(default)]
    pub warm_up: Span,
    #[serde(default)]
    pub step: Vec<Spanned<Step>>,
    #[serde(default)]
    pub expect: Vec<Spanned<Expect>>,
}

/// Exactly one of the actions.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Step {
    #[serde(default)]
    pub at: Span,
    /// Begin when this step has ended, instead of at a time.
    pub after: Option<Spanned<String>>,
    pub transfer: Option<Transfer>,
    pub stream: Option<Stream>,
    pub broker: Option<BrokerAction>,
    pub port_down: Option<PortDown>,
    pub pause: Option<Span>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    pub name: Spanned<String>,
    pub from: Spanned<String>,
    pub bytes: Spanned<Bytes>,
    pub deadline: Spanned<Span>,
    /// An unfinished transfer is ended this long after its deadline.
    #[serde(default)]
    pub cut_after: Span,
    pub buy: Option<Spanned<Buy>>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    pub name: Spanned<String>,
    pub from: Spanned<String>,
    /// Asked for; what is sent is what was bought, or this when nothing is bought.
    pub rate: Spanned<Rate>,
    pub length: Spanned<Span>,
    pub buy: Option<Spanned<Buy>>,
}

/// Which offer is taken.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "snake_case")]
pub enum Take {
    /// What was asked for.
    #[default]
    Asked,
    /// What was asked for must be refused; the fastest counter-offer for now is taken.
    CounterOffer,
}

#[derive(Deserialize, Debug, Clone, Copy)]
#[serde(deny_unknown_fields)]
pub struct Buy {
    #[serde(default)]
    pub take: Take,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum BrokerAction {
    /// SIGKILL.
    Kill,
    /// Start it again on the same data.
    Start,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Port {
    Wan0,
    Lan0,
}

impl Port {
    pub fn name(self) -> &'static str {
        match self {
            Port::Wan0 => "wan0",
            Port::Lan0 => "lan0",
        }
    }
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct PortDown {
    pub port: Port,
    pub length: Span,
}

/// Exactly one of `is`, `at_least`, `at_most`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    pub that: Spanned<String>,
    /// Compare the ratio of two figures.
    pub over: Option<Spanned<String>>,
    pub is: Option<Value>,
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
}

#[derive(Deserialize, Debug, Clone, Copy, PartialEq)]
#[serde(untagged)]
pub enum Value {
    Bool(bool),
    Number(f64),
    Integer(i64),
}
