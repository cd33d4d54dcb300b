//! From the file's form to what the broker starts from. Goes on after a problem, so that one run shows all.

use super::file::{self, Text};
use super::{Problem, Serve, Settings, problem};
use crate::auth::{KeyDef, KeyKind, parse_sha256_hex};
use crate::driver::Market;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use tollway_billing::curve::Knot;
use tollway_billing::tariff::PRICE_MICROS_MAX;
use tollway_billing::{Curve, Tariff};
use tollway_core::config::{
    AccessDef, ChargeBy, CustomerDef, EndpointDef, LegalBasis, PoolDef, Prefix, SideDef, TierDef, TierKind,
    parse_every, parse_line,
};
use tollway_core::{ConfigDef, limits};
use tollway_model::{BitsPerSecond, Currency, Micros, SlotLength};
use tollway_policy::ClassShape;
use toml::Spanned;

/// Longest name of anything that is configured, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Longest text of a legal basis, in bytes.
const WHY_BYTES_MAX: usize = 500;

const PPM: u32 = 1_000_000;
const HOLD_SHARE_PPM: u32 = 250_000;
const OVERHEAD_PPM: u32 = 80_000;
const RATE_MIN_BPS: u64 = 64_000;

/// Packets below 64 bytes make a class rate that is mostly header; above 9,000 nothing is sent.
const PACKET_BYTES: RangeInclusive<u32> = 64..=9_000;

pub(super) fn settings(
    name: &str,
    text: &str,
    file: file::File,
    dir: Option<&Path>,
) -> Result<Settings, Vec<Problem>> {
    let mut check = Check { file: name, text, dir, problems: Vec::new(), seen: BTreeMap::new() };
    let settings = check.settings(file);
    match settings {
        Some(settings) if check.problems.is_empty() => Ok(settings),
        Some(_) | None => Err(check.problems),
    }
}

pub(super) struct Check<'a> {
    file: &'a str,
    text: &'a str,
    /// Where files lie that are named; none when only a text is checked.
    pub(super) dir: Option<&'a Path>,
    pub(super) problems: Vec<Problem>,
    /// Names by the kind of what they name.
    pub(super) seen: BTreeMap<(&'static str, String), Range<usize>>,
}

impl Check<'_> {
    fn settings(&mut self, file: file::File) -> Option<Settings> {
        let currency = self.currency(file.market.currency.as_ref()).unwrap_or(Currency::EUR);
        let market = self.market(&file.market);
        let serve = self.serve(&file.serve);
        let pools = file.pool.iter().map(|pool| self.pool(pool)).collect();
        let tariffs: Vec<Option<Tariff>> =
            file.tariff.iter().map(|tariff| self.tariff(tariff, currency)).collect();
        let tariffs: Vec<Tariff> = tariffs.into_iter().flatten().collect();
        let tiers: Vec<Option<TierDef>> = file.tier.iter().map(|tier| self.tier(tier, &tariffs)).collect();
        let mut accesses: Vec<AccessDef> = file.access.iter().map(|access| self.access(access)).collect();
        let minute = SlotLength::from_secs(60).expect("a minute divides a day");
        let slot_length = market.as_ref().map_or(minute, |market| market.slot_length);
        let gx = file.gx.as_ref().and_then(|gx| self.gx(gx, slot_length, &file.access));
        let (gx, families) = gx.unzip();
        accesses.extend(families.into_iter().flatten());
        let customers = file.customer.iter().map(|customer| self.customer(customer, currency)).collect();
        let keys: Vec<Option<KeyDef>> = file.key.iter().map(|key| self.key(key, &file.access)).collect();
        self.same_tokens(&file.key);
        let tiers = tiers.into_iter().flatten().collect();
        let keys = keys.into_iter().flatten().collect();
        Some(Settings {
            market: market?,
            currency,
            serve: serve?,
            keys,
            def: ConfigDef { pools, tiers, accesses, customers },
            gx,
        })
    }

    pub(super) fn problem(&mut self, span: Range<usize>, what: impl Into<String>, how: impl Into<String>) {
        self.problems.push(problem::at(self.file, self.text, span, what, how));
    }

    /// A name: not empty, not too long, printable, not used twice for the same kind of thing.
    pub(super) fn name(&mut self, kind: &'static str, name: &Text) -> String {
        let text = name.get_ref().clone();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(plain) {
            self.problem(
                name.span(),
                format!("{kind} name {text:?} is not a name"),
                format!("use 1 to {NAME_BYTES_MAX} letters, digits and - _ . : /"),
            );
        } else if let Some(first) = self.seen.insert((kind, text.clone()), name.span()) {
            let line = problem::at(self.file, self.text, first, "", "").line;
            self.problem(
                name.span(),
                format!("{kind} {text:?} is defined twice, first at line {line}"),
                "rename or remove one of the two",
            );
        }
        text
    }

    /// A reference to something that is defined.
    pub(super) fn known(&mut self, kind: &'static str, name: &Text) -> String {
        let text = name.get_ref().clone();
        if !self.seen.contains_key(&(kind, text.clone())) {
            let there: Vec<&str> =
                self.seen.keys().filter(|(k, _)| *k == kind).map(|(_, name)| name.as_str()).collect();
            let how = if there.is_empty() {
                format!("define it with [[{kind}]]")
            } else {
                format!("define it with [[{kind}]], or use one of: {}", there.join(", "))
            };
            self.problem(name.span(), format!("there is no {kind} {text:?}"), how);
        }
        text
    }

    pub(super) fn ranged<T>(&mut self, what: &str, value: &Spanned<T>, range: RangeInclusive<T>) -> T
    where
        T: Copy + PartialOrd + std::fmt::Display,
    {
        let number = *value.get_ref();
        if !range.contains(&number) {
            self.problem(
                value.span(),
                format!("{what} is {number}, which is out of range"),
                format!("use {} to {}", range.start(), range.end()),
            );
        }
        number
    }

    pub(super) fn optional<T>(
        &mut self,
        what: &str,
        value: Option<&Spanned<T>>,
        range: RangeInclusive<T>,
        default: T,
    ) -> T
    where
        T: Copy + PartialOrd + std::fmt::Display,
    {
        value.map_or(default, |value| self.ranged(what, value, range))
    }

    fn currency(&mut self, code: Option<&Text>) -> Option<Currency> {
        let code = code?;
        let currency = Currency::parse(code.get_ref());
        if currency.is_none() {
            self.problem(
                code.span(),
                format!("{:?} is no currency code", code.get_ref()),
                "use three capital letters of ISO 4217, e.g. \"EUR\"",
            );
        }
        currency
    }

    fn market(&mut self, market: &file::Market) -> Option<Market> {
        let name = self.name("market", &market.name);
        let slot_length = SlotLength::from_secs(*market.slot_s.get_ref());
        if slot_length.is_none() {
            self.problem(
                market.slot_s.span(),
                format!("slot_s = {} does not divide a day", market.slot_s.get_ref()),
                "use 60 in production, 5 in a lab, or another of 1 to 3600 that divides 86400",
            );
        }
        Some(Market { name, slot_length: slot_length? })
    }

    fn serve(&mut self, serve: &file::Serve) -> Option<Serve> {
        let http = self.address("http", &serve.http);
        let grpc = self.address("grpc", &serve.grpc);
        let (http, grpc) = (http?, grpc?);
        if http == grpc && http.port() != 0 {
            self.problem(serve.grpc.span(), "http and grpc have the same address", "give each its own port");
        }
        Some(Serve { http, grpc })
    }

    pub(super) fn address(&mut self, what: &str, text: &Text) -> Option<SocketAddr> {
        let address = text.get_ref().parse().ok();
        if address.is_none() {
            self.problem(
                text.span(),
                format!("{what} = {:?} is no address", text.get_ref()),
                "write ADDRESS:PORT, e.g. \"127.0.0.1:7410\" or \"[::1]:7410\"",
            );
        }
        address
    }

    fn pool(&mut self, pool: &file::Pool) -> PoolDef {
        let rates = 1..=limits::RATE_BPS_MAX;
        PoolDef {
            name: self.name("pool", &pool.name),
            up: BitsPerSecond(self.ranged("up_bps", &pool.up_bps, rates.clone())),
            down: BitsPerSecond(self.ranged("down_bps", &pool.down_bps, rates)),
            sell_share_ppm: self.ranged("sell_share_ppm", &pool.sell_share_ppm, 0..=PPM),
            hold_share_ppm: self.optional(
                "hold_share_ppm",
                pool.hold_share_ppm.as_ref(),
                0..=PPM,
                HOLD_SHARE_PPM,
            ),
        }
    }

    fn tariff(&mut self, tariff: &file::Tariff, currency: Currency) -> Option<Tariff> {
        let prices = 0..=PRICE_MICROS_MAX;
        let name = self.name("tariff", &tariff.name);
        let currency = self.currency(tariff.currency.as_ref()).unwrap_or(currency);
        let mbps_hour = Micros(self.ranged("mbps_hour_micros", &tariff.mbps_hour_micros, prices.clone()));
        let gb = Micros(self.ranged("gb_micros", &tariff.gb_micros, prices.clone()));
        let setup = Micros(self.optional("setup_micros", tariff.setup_micros.as_ref(), prices, 0));
        let curve = match &tariff.curve {
            None => Curve::flat(),
            Some(knots) => self.curve(knots)?,
        };
        Some(Tariff { name, currency, mbps_hour, gb, setup, curve })
    }

    fn curve(&mut self, knots: &Spanned<Vec<(u32, u32)>>) -> Option<Curve> {
        let list = knots
            .get_ref()
            .iter()
            .map(|&(utilisation_ppm, multiplier_ppm)| Knot { utilisation_ppm, multiplier_ppm })
            .collect();
        match Curve::new(list) {
            Ok(curve) => Some(curve),
            Err(error) => {
                self.problem(
                    knots.span(),
                    error.to_string(),
                    "write pairs [utilisation_ppm, multiplier_ppm] that rise ever steeper, e.g. \
                     [[0, 1_000_000], [700_000, 1_000_000], [1_000_000, 3_000_000]]",
                );
                None
            }
        }
    }

    fn tier(&mut self, tier: &file::Tier, tariffs: &[Tariff]) -> Option<TierDef> {
        let name = self.name("tier", &tier.name);
        let tariff_name = self.known("tariff", &tier.tariff);
        let legal_basis = self.legal_basis(&tier.legal_basis);
        let shape = self.shape(tier);
        let day = 86_400;
        let seconds = |check: &mut Self, what, value: &Option<Spanned<u32>>, default| {
            check.optional(what, value.as_ref(), 0..=day, default)
        };
        let gap_s_max = self.optional("gap_s_max", tier.gap_s_max.as_ref(), 1..=3_600, 3);
        let start_grace_s = seconds(self, "start_grace_s", &tier.start_grace_s, 10);
        let unseen_free_s = seconds(self, "unseen_free_s", &tier.unseen_free_s, 120);
        let notice_s = self.optional("notice_s", tier.notice_s.as_ref(), 0..=31 * day, 0);
        let cancel_fee_ppm = self.optional("cancel_fee_ppm", tier.cancel_fee_ppm.as_ref(), 0..=PPM, 0);
        let overhead_ppm = self.optional("overhead_ppm", tier.overhead_ppm.as_ref(), 0..=PPM, OVERHEAD_PPM);
        let (rate_min, rate_max) = self.rates(tier);
        Some(TierDef {
            name,
            kind: match tier.kind {
                file::Kind::Assured => TierKind::Assured,
                file::Kind::Target => TierKind::Target,
                file::Kind::Background => TierKind::Background,
            },
            legal_basis,
            shape,
            overhead_ppm,
            gap_s_max,
            start_grace_s,
            unseen_free_s,
            rate_offers: charge_by(tier.charge_by_rate, ChargeBy::Reserved),
            bytes_offers: charge_by(tier.charge_by_bytes, ChargeBy::Delivered),
            rate_min,
            rate_max,
            notice_s,
            cancel_fee_ppm,
            tariff: tariffs.iter().find(|tariff| tariff.name == tariff_name)?.clone(),
            gx: self.tier_gx(tier),
            rx: None,
            charge_unconfirmed: tier.charge_unconfirmed.unwrap_or(false),
        })
    }

    fn legal_basis(&mut self, basis: &file::LegalBasis) -> LegalBasis {
        match basis {
            file::LegalBasis::Specialised { why } => {
                let text = why.get_ref().trim().to_owned();
                if text.is_empty() || text.len() > WHY_BYTES_MAX {
                    self.problem(
                        why.span(),
                        "a specialised service says why it needs its quality",
                        format!("write one sentence of at most {WHY_BYTES_MAX} bytes for the regulator"),
                    );
                }
                LegalBasis::Specialised { why: text }
            }
            file::LegalBasis::SubscriberChoice {} => LegalBasis::SubscriberChoice,
            file::LegalBasis::PrivateNetwork {} => LegalBasis::PrivateNetwork,
            file::LegalBasis::OutsideEu {} => LegalBasis::OutsideEu,
        }
    }

    fn shape(&mut self, tier: &file::Tier) -> ClassShape {
        ClassShape {
            packet_bytes: self.optional("packet_bytes", tier.packet_bytes.as_ref(), PACKET_BYTES, 1_500),
            queue_ms_max: self.optional("queue_ms_max", tier.queue_ms_max.as_ref(), 1..=1_000, 50),
            borrow: match tier.excess {
                Some(file::Excess::BestEffort) | None => true,
                Some(file::Excess::Shape) => false,
            },
        }
    }

    fn rates(&mut self, tier: &file::Tier) -> (BitsPerSecond, BitsPerSecond) {
        let range = 1..=limits::RATE_BPS_MAX;
        let min = self.optional("rate_min_bps", tier.rate_min_bps.as_ref(), range.clone(), RATE_MIN_BPS);
        let max = self.optional("rate_max_bps", tier.rate_max_bps.as_ref(), range, limits::RATE_BPS_MAX);
        if min > max {
            let span = tier.rate_min_bps.as_ref().or(tier.rate_max_bps.as_ref()).map_or(0..0, Spanned::span);
            self.problem(
                span,
                format!("rate_min_bps is {min}, above rate_max_bps, which is {max}"),
                "make the smallest rate at most the largest",
            );
        }
        (BitsPerSecond(min), BitsPerSecond(max))
    }

    fn access(&mut self, access: &file::Access) -> AccessDef {
        let name = self.name("access", &access.name);
        let price_pool = self.known("pool", &access.price_pool);
        let up = self.side("up", &access.up);
        let down = self.side("down", &access.down);
        for (what, side) in [("up", &up), ("down", &down)] {
            if !side.pools.contains(&price_pool) {
                self.problem(
                    access.price_pool.span(),
                    format!("price_pool {price_pool:?} is not among the pools of {what}"),
                    "name a pool that the access uses in both directions",
                );
            }
        }
        let subscriber = access.subscriber.as_ref().map_or_else(|| name.clone(), |s| s.get_ref().clone());
        AccessDef {
            name,
            enforcement_point: self.plain("enforcement_point", &access.enforcement_point),
            up,
            down,
            price_pool,
            subscriber,
            road: None,
        }
    }

    fn side(&mut self, what: &str, side: &file::Side) -> SideDef {
        SideDef { pools: self.pools(what, &side.pools), port: self.plain("port", &side.port) }
    }

    pub(super) fn pools(&mut self, what: &str, names: &Spanned<Vec<Text>>) -> Vec<String> {
        let mut pools: Vec<String> = Vec::new();
        for pool in names.get_ref() {
            let name = self.known("pool", pool);
            if pools.contains(&name) {
                let what = format!("pool {name:?} is named twice in {what}");
                self.problem(pool.span(), what, "name each pool of a direction once, nearest first");
            }
            pools.push(name);
        }
        if pools.is_empty() {
            self.problem(
                names.span(),
                format!("{what} uses no pool"),
                "name the pools that this direction uses, nearest first",
            );
        }
        pools
    }

    /// A name that is defined elsewhere: an agent's, a port's.
    pub(super) fn plain(&mut self, what: &str, name: &Text) -> String {
        let text = name.get_ref().clone();
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            self.problem(
                name.span(),
                format!("{what} {text:?} is not a name"),
                format!("use 1 to {NAME_BYTES_MAX} characters, the same as on the other side"),
            );
        }
        text
    }

    fn customer(&mut self, customer: &file::Customer, currency: Currency) -> CustomerDef {
        CustomerDef {
            name: self.name("customer", &customer.name),
            currency: self.currency(customer.currency.as_ref()).unwrap_or(currency),
            endpoints: customer.endpoints.iter().map(|endpoint| self.endpoint(endpoint)).collect(),
        }
    }

    fn endpoint(&mut self, endpoint: &file::Endpoint) -> EndpointDef {
        let is_line = self.is_line(&endpoint.access);
        let mut addresses = Vec::new();
        for text in endpoint.addresses.iter().flat_map(|list| list.get_ref()) {
            match text.get_ref().parse::<Prefix>() {
                Ok(prefix) => addresses.push(prefix),
                Err(why) => self.problem(
                    text.span(),
                    format!("address {:?}: {why}", text.get_ref()),
                    "write e.g. \"10.10.0.2/32\" or \"2001:db8::/64\", with no bits after the length",
                ),
            }
        }
        if endpoint.addresses.as_ref().is_none_or(|list| list.get_ref().is_empty()) && !is_line {
            self.problem(
                endpoint.addresses.as_ref().map_or_else(|| endpoint.access.span(), Spanned::span),
                "an endpoint without addresses allows nothing",
                "name the prefixes whose devices the customer may buy for",
            );
        }
        let access =
            if is_line { endpoint.access.get_ref().clone() } else { self.known("access", &endpoint.access) };
        EndpointDef { access, addresses }
    }

    /// Whether a name is of one subscriber's access at an APN of ours, or of all there.
    fn is_line(&mut self, access: &Text) -> bool {
        let name = access.get_ref();
        let is_family = |check: &Self, name: &str| check.seen.contains_key(&("apn", name.to_owned()));
        if is_family(self, name) {
            self.problem(
                access.span(),
                format!("{name:?} is an APN, with an access for each subscriber"),
                format!("write \"{name}/*\" for all of them, or \"{name}/NUMBER\" for one"),
            );
            return true;
        }
        let Some((_, number)) = name.rsplit_once('/').filter(|(family, _)| is_family(self, family)) else {
            return false;
        };
        if parse_every(name).is_none() && parse_line(name).is_none() {
            self.problem(
                access.span(),
                format!("{number:?} is no subscriber's number"),
                "write the number that the profiles give to the subscriber, without leading zeros, or *",
            );
        }
        true
    }

    fn key(&mut self, key: &Spanned<file::Key>, accesses: &[file::Access]) -> Option<KeyDef> {
        let def = key.get_ref();
        let noc = def.noc.as_ref().is_some_and(|noc| *noc.get_ref());
        let kind = match (&def.customer, noc, &def.agent) {
            (Some(customer), false, None) => KeyKind::Customer { customer: self.known("customer", customer) },
            (None, true, None) => KeyKind::Noc,
            (None, false, Some(agent)) => self.agent(agent, accesses),
            (_, _, _) => {
                self.problem(
                    def.sha256.span(),
                    "a key is for exactly one of a customer, the NOC or an agent",
                    "write one of customer = \"NAME\", noc = true, agent = \"ENFORCEMENT POINT\"",
                );
                return None;
            }
        };
        let sha256 = parse_sha256_hex(def.sha256.get_ref());
        if sha256.is_none() {
            self.problem(
                def.sha256.span(),
                "sha256 is not 64 hexadecimal digits",
                "run `tollway noc key new` and put its sha256 line here; never the token itself",
            );
        }
        let name = match (&def.name, &kind) {
            (Some(name), _) => self.plain("name", name),
            (None, KeyKind::Customer { customer }) => customer.clone(),
            (None, KeyKind::Noc) => "noc".to_owned(),
            (None, KeyKind::Agent { enforcement_point }) => enforcement_point.clone(),
        };
        Some(KeyDef { name, kind, sha256: sha256? })
    }

    fn agent(&mut self, agent: &Text, accesses: &[file::Access]) -> KeyKind {
        let name = agent.get_ref();
        if !accesses.iter().any(|access| access.enforcement_point.get_ref() == name) {
            self.problem(
                agent.span(),
                format!("no access has the enforcement point {name:?}"),
                "use the enforcement_point of an [[access]]",
            );
        }
        KeyKind::Agent { enforcement_point: name.clone() }
    }

    fn same_tokens(&mut self, keys: &[Spanned<file::Key>]) {
        let mut seen: BTreeMap<String, ()> = BTreeMap::new();
        for key in keys {
            let sha256 = &key.get_ref().sha256;
            if seen.insert(sha256.get_ref().to_ascii_lowercase(), ()).is_some() {
                self.problem(
                    sha256.span(),
                    "two keys have the same token, so it is not clear who is calling",
                    "run `tollway noc key new` for one of them",
                );
            }
        }
    }
}

fn charge_by(wanted: Option<file::ChargeBy>, default: ChargeBy) -> ChargeBy {
    match wanted {
        None => default,
        Some(file::ChargeBy::Reserved) => ChargeBy::Reserved,
        Some(file::ChargeBy::Delivered) => ChargeBy::Delivered,
    }
}
