//! `[gx]`: gateways, the APNs that are ours, who a subscriber is. Files that it names are read with it.

use super::check::Check;
use super::file::{self, Text};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tollway_core::config::{AccessDef, RoadDef, SideDef};
use tollway_diameter::capabilities::Local;
use tollway_diameter::limits::{WATCHDOG_JITTER_MS, WATCHDOG_MS};
use tollway_diameter::machine::{PeerSettings, Proof};
use tollway_diameter::node::{self, Dial, Listen, PeerConfig, Tls};
use tollway_diameter::watchdog::Timing;
use tollway_diameter::{Origin, application};
use tollway_gx::profile::Table;
use tollway_gx::{Feature, Gateway, Reports, RuleTimes, Terms};
use tollway_model::SlotLength;
use tollway_policy::{GxTerms, Metering};
use toml::Spanned;

/// Name of the enforcement point where none is given.
const ENFORCEMENT_POINT: &str = "gx";
/// The origin of all gateways that have none of their own.
const OTHERS: &str = "*";
const PRECEDENCE: u32 = 100;
/// Seconds between two watchdogs (RFC 3539 §3.4.1 allows no fewer than 6).
const WATCHDOG_S: std::ops::RangeInclusive<u64> = 6..=300;
const RAR_TIMEOUT_S: std::ops::RangeInclusive<u64> = 1..=60;
const RAR_RATE: std::ops::RangeInclusive<u32> = 0..=100_000;
const FILTERS: std::ops::RangeInclusive<u8> = 2..=tollway_gx::limits::FILTERS_MAX;
/// Bytes between two usage reports: below, reports would be most of what is sent.
const USAGE_BYTES: std::ops::RangeInclusive<u64> = 10_000..=1_000_000_000_000;

/// What `[gx]` says, whole.
#[derive(Clone, Debug)]
pub struct Gx {
    pub enforcement_point: String,
    /// Its incarnation is the driver's to give.
    pub machine: tollway_gx::Settings,
    pub node: node::Config,
    pub profiles: PathBuf,
    pub table: Arc<Table>,
}

impl Gx {
    /// Reads the profiles again.
    ///
    /// # Errors
    /// Why they cannot be read; nothing is changed then.
    pub fn read_profiles(path: &Path) -> Result<Table, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Table::from_csv(&text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Check<'_> {
    /// The section with the accesses that it makes: one family for each APN.
    pub(super) fn gx(
        &mut self,
        gx: &file::Gx,
        slot_length: SlotLength,
        accesses: &[file::Access],
    ) -> Option<(Gx, Vec<AccessDef>)> {
        let point = match &gx.enforcement_point {
            Some(point) => self.plain("enforcement_point", point),
            None => ENFORCEMENT_POINT.to_owned(),
        };
        if let Some(access) = accesses.iter().find(|access| *access.enforcement_point.get_ref() == point) {
            self.problem(
                access.enforcement_point.span(),
                format!("{point:?} is the enforcement point of the gateways in [gx]"),
                "give the agent another name, or set enforcement_point in [gx]",
            );
        }
        if gx.apns.get_ref().is_empty() {
            self.problem(gx.apns.span(), "no APN is ours: no session could ever be taken", "add [[gx.apns]]");
        }
        let families = gx.apns.get_ref().iter().map(|apn| self.apn(apn, &point)).collect();
        let origin = Origin {
            host: self.identity("origin_host", &gx.origin_host),
            realm: self.identity("origin_realm", &gx.origin_realm),
            // Sessions outlive this process, so it never says that it lost them (RFC 6733 §8.16).
            state_id: 1,
        };
        let machine = tollway_gx::Settings {
            origin: origin.clone(),
            apns: gx.apns.get_ref().iter().map(|apn| apn.name.get_ref().to_ascii_lowercase()).collect(),
            home_plmns: gx.home_plmns.iter().map(|plmn| plmn.get_ref().clone()).collect(),
            gateways: BTreeMap::new(),
            gateway: Gateway::default(),
            slot_length,
            incarnation: 0,
        };
        let machine = self.gateways(gx, machine);
        self.words_of_gx(gx, &machine);
        let node = self.node(gx, origin)?;
        let profiles = self.beside(&gx.profiles);
        let table = self.profiles(&gx.profiles, &profiles);
        let gx = Gx { enforcement_point: point, machine, node, profiles, table: Arc::new(table) };
        Some((gx, families))
    }

    fn apn(&mut self, apn: &file::GxApn, point: &str) -> AccessDef {
        let name = self.name("access", &apn.name);
        self.seen.insert(("apn", name.clone()), apn.name.span());
        let price_pool = self.known("pool", &apn.price_pool);
        let side = |check: &mut Self, what: &str, pools: &Spanned<Vec<Text>>| {
            let pools = check.pools(what, pools);
            if !pools.contains(&price_pool) {
                check.problem(
                    apn.price_pool.span(),
                    format!("price_pool {price_pool:?} is not among the pools of {what}"),
                    "name a pool that the APN uses in both directions",
                );
            }
            SideDef { port: name.clone(), pools }
        };
        let (up, down) = (side(self, "up", &apn.up), side(self, "down", &apn.down));
        AccessDef {
            road: Some(RoadDef::Gx { apn: name.to_ascii_lowercase() }),
            subscriber: name.clone(),
            enforcement_point: point.to_owned(),
            name,
            up,
            down,
            price_pool,
        }
    }

    /// A name on the wire (RFC 6733 §4.3.1).
    fn identity(&mut self, what: &str, name: &Text) -> String {
        let text = name.get_ref().clone();
        if !tollway_diameter::check::is_identity(text.as_bytes()) {
            self.problem(
                name.span(),
                format!("{what} = {text:?} is no name of a Diameter node"),
                "write a fully qualified domain name of at most 255 visible ASCII characters",
            );
        }
        text
    }

    fn gateways(&mut self, gx: &file::Gx, mut machine: tollway_gx::Settings) -> tollway_gx::Settings {
        for gateway in &gx.gateways {
            let origin = gateway.origin_host.get_ref().clone();
            let own = Gateway {
                reports: match gateway.reports {
                    Some(file::GxReports::None) => Reports::None,
                    Some(file::GxReports::Full) | None => Reports::Full,
                },
                rule_times: match gateway.rule_times {
                    Some(file::GxRuleTimes::Ignored) => RuleTimes::Ignored,
                    Some(file::GxRuleTimes::Kept) | None => RuleTimes::Kept,
                },
                rar_rate_max: match &gateway.rar_rate_max {
                    None => Gateway::default().rar_rate_max,
                    Some(rate) => Some(self.ranged("rar_rate_max", rate, RAR_RATE)).filter(|rate| *rate > 0),
                },
                rar_timeout_ms: 1_000
                    * self.optional("rar_timeout_s", gateway.rar_timeout_s.as_ref(), RAR_TIMEOUT_S, 5),
                filters_max: self.optional(
                    "filters_max",
                    gateway.filters_max.as_ref(),
                    FILTERS,
                    tollway_gx::limits::FILTERS_MAX,
                ),
                extended_bw: gateway.extended_bandwidth.unwrap_or(true).then_some(Feature::EXTENDED_BW_NR),
            };
            self.unique("gateway", &gateway.origin_host);
            if origin == OTHERS {
                machine.gateway = own;
            } else {
                machine.gateways.insert(self.identity("origin_host", &gateway.origin_host), own);
            }
        }
        machine
    }

    /// APNs and networks, each at its own place.
    fn words_of_gx(&mut self, gx: &file::Gx, machine: &tollway_gx::Settings) {
        let plain = tollway_gx::Settings {
            apns: vec!["internet".to_owned()],
            home_plmns: Vec::new(),
            gateways: BTreeMap::new(),
            gateway: Gateway::default(),
            ..machine.clone()
        };
        for apn in gx.apns.get_ref() {
            let one = tollway_gx::Settings { apns: vec![apn.name.get_ref().clone()], ..plain.clone() };
            let how = "write the network identifier, without .mnc….mcc….gprs; route ims and sos elsewhere";
            self.settled(one.check(), apn.name.span(), how);
        }
        for plmn in &gx.home_plmns {
            let one = tollway_gx::Settings { home_plmns: vec![plmn.get_ref().clone()], ..plain.clone() };
            self.settled(one.check(), plmn.span(), "write MCC and MNC together, e.g. \"99970\"");
        }
    }

    fn settled<E: std::fmt::Display>(&mut self, checked: Result<(), E>, span: Range<usize>, how: &str) {
        if let Err(error) = checked {
            self.problem(span, error.to_string(), how);
        }
    }

    fn node(&mut self, gx: &file::Gx, origin: Origin) -> Option<node::Config> {
        let mut listen = Vec::new();
        for (what, address, is_tls) in [("listen", &gx.listen, false), ("listen_tls", &gx.listen_tls, true)] {
            if let Some(text) = address {
                listen.extend(self.address(what, text).map(|address| Listen { address, is_tls }));
            }
        }
        let host = gx.origin_host.span();
        let addresses = self.host_addresses(gx, &listen);
        let peers: Vec<PeerConfig> = gx.peers.iter().map(|peer| self.peer(gx, peer)).collect();
        let tls = gx.tls.as_ref().and_then(|tls| self.tls(tls));
        let needs_tls = gx.listen_tls.is_some() || gx.peers.iter().any(|peer| peer.tls);
        if needs_tls && gx.tls.is_none() {
            let span = gx.listen_tls.as_ref().map_or(host.clone(), Spanned::span);
            let how = "add tls = { cert = \"…\", key = \"…\", client_ca = \"…\" } to [gx]";
            self.problem(span, "TLS is asked for, but there is no certificate", how);
        }
        if listen.is_empty() && gx.peers.iter().all(|peer| peer.dial.is_none()) {
            let how = "add listen or listen_tls, or dial to one of [[gx.peers]]";
            self.problem(host.clone(), "nobody could connect: nothing is listened on or dialed", how);
        }
        let local = Local {
            origin,
            addresses,
            product: "Tollway".to_owned(),
            firmware: 1,
            applications: vec![application::GX],
        };
        let config = node::Config { local, peers, listen, tls, trace: None };
        // Files are not read when only a text is checked: then there is no certificate to judge by.
        if self.problems.is_empty() && (config.tls.is_some() || !needs_tls) {
            let how = "give each of [[gx.peers]] its own name, and addresses or a certificate to know it by";
            self.settled(config.check(), host, how);
        }
        Some(config)
    }

    fn host_addresses(&mut self, gx: &file::Gx, listen: &[Listen]) -> Vec<IpAddr> {
        let own = gx.host_ip_addresses.as_ref();
        let addresses: Vec<IpAddr> = match own {
            Some(list) => list.get_ref().iter().filter_map(|text| self.ip(text)).collect(),
            None => listen.iter().map(|l| l.address.ip()).filter(|ip| !ip.is_unspecified()).collect(),
        };
        if addresses.is_empty() && self.problems.is_empty() {
            self.problem(
                own.map_or_else(|| gx.origin_host.span(), Spanned::span),
                "no address of ours can be told to peers (Host-IP-Address)",
                "write host_ip_addresses = [\"…\"], the addresses that gateways reach us at",
            );
        }
        addresses
    }

    fn ip(&mut self, text: &Text) -> Option<IpAddr> {
        let address = text.get_ref().parse().ok();
        if address.is_none() {
            let what = format!("{:?} is no address", text.get_ref());
            self.problem(text.span(), what, "write an IPv4 or IPv6 address without a port");
        }
        address
    }

    fn peer(&mut self, gx: &file::Gx, peer: &file::GxPeer) -> PeerConfig {
        self.unique("peer", &peer.origin_host);
        let host = self.identity("origin_host", &peer.origin_host);
        let addresses: Vec<IpAddr> = peer.addresses.iter().filter_map(|text| self.ip(text)).collect();
        // One that we connect to by plain TCP is known by that address: nobody else may come in its name.
        let proof = if peer.addresses.is_empty() && (peer.tls || peer.dial.is_none()) {
            Proof::Certificate
        } else {
            Proof::Addresses(addresses)
        };
        let interval_ms =
            1_000 * self.optional("watchdog_s", peer.watchdog_s.as_ref(), WATCHDOG_S, WATCHDOG_MS / 1_000);
        let dial = peer.dial.as_ref().map(|address| {
            let is_address = address.get_ref().rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if !is_address {
                self.problem(
                    address.span(),
                    format!("dial = {:?} is no place to connect to", address.get_ref()),
                    "write HOST:PORT, e.g. \"pgw.example.net:3868\"",
                );
            }
            Dial { address: address.get_ref().clone(), is_tls: peer.tls }
        });
        if host.eq_ignore_ascii_case(gx.origin_host.get_ref()) {
            let how = "write the peer's own name, or take the peer away";
            self.problem(peer.origin_host.span(), format!("peer {host:?} is ourselves"), how);
        }
        if proof == Proof::Certificate && dial.is_none() && gx.listen_tls.is_none() {
            self.problem(
                peer.origin_host.span(),
                format!("peer {host:?} cannot prove who it is, and is not connected to"),
                "add addresses that it connects from, or listen_tls for its certificate, or dial",
            );
        }
        let settings = PeerSettings {
            realm: match &peer.origin_realm {
                Some(realm) => self.identity("origin_realm", realm),
                None => gx.origin_realm.get_ref().clone(),
            },
            relays: peer.relays.iter().map(|realm| self.identity("relays", realm)).collect(),
            dials: dial.is_some(),
            proof,
            watchdog: Timing {
                interval_ms,
                jitter_ms: WATCHDOG_JITTER_MS,
                // Peers that were lost together do not come back together.
                seed: host.bytes().fold(0, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte))),
            },
            host,
        };
        PeerConfig { settings, dial }
    }

    fn unique(&mut self, kind: &'static str, name: &Text) {
        if self.seen.insert((kind, name.get_ref().to_ascii_lowercase()), name.span()).is_some() {
            let what = format!("{kind} {:?} is there twice", name.get_ref());
            self.problem(name.span(), what, "keep one of the two");
        }
    }

    fn beside(&self, file: &Text) -> PathBuf {
        self.dir.map_or_else(|| PathBuf::from(file.get_ref()), |dir| dir.join(file.get_ref()))
    }

    /// Bytes of a file that is named; none where only a text is checked.
    fn read(&mut self, file: &Text) -> Option<Vec<u8>> {
        self.dir?;
        let path = self.beside(file);
        let read = std::fs::read(&path);
        if let Err(error) = &read {
            let what = format!("cannot read {}: {error}", path.display());
            self.problem(file.span(), what, "name a file that exists, beside this one or by its whole path");
        }
        read.ok()
    }

    fn tls(&mut self, tls: &file::GxTls) -> Option<Tls> {
        let (cert, key, ca) = (self.read(&tls.cert), self.read(&tls.key), self.read(&tls.client_ca));
        match Tls::from_pem(&cert?, &key?, &ca?) {
            Ok(tls) => Some(tls),
            Err(error) => {
                let how = "name PEM files: our certificate with its chain, its key, and who signs gateways'";
                self.problem(tls.cert.span(), error.to_string(), how);
                None
            }
        }
    }

    fn profiles(&mut self, file: &Text, path: &Path) -> Table {
        if self.dir.is_none() {
            return Table::default();
        }
        Gx::read_profiles(path).unwrap_or_else(|why| {
            self.problem(file.span(), why, "mend that file; `docs/gx.md` says what its columns are");
            Table::default()
        })
    }

    /// How a tier's rules look at a gateway.
    pub(super) fn tier_gx(&mut self, tier: &file::Tier) -> Option<GxTerms> {
        let gx = tier.gx.as_ref()?;
        if !matches!(tier.kind, file::Kind::Target) {
            self.problem(
                gx.span(),
                "what a gateway is asked for can be no more than a target",
                "make this tier's kind \"target\", or take gx away from it",
            );
        }
        let wire = gx.get_ref();
        let terms = GxTerms {
            qci: wire.qci,
            priority_level: wire.priority_level,
            allow_priority: wire.allow_priority.clone(),
            precedence: wire.precedence.unwrap_or(PRECEDENCE),
            rating_group: wire.rating_group,
            service_identifier: wire.service_identifier,
            metering: match wire.metering {
                Some(file::Metering::Duration) => Metering::Duration,
                Some(file::Metering::DurationVolume) => Metering::DurationVolume,
                Some(file::Metering::Volume) | None => Metering::Volume,
            },
            online: wire.online,
            offline: wire.offline.unwrap_or(true),
            mbr_bps_min: self.optional(
                "mbr_bps_min",
                wire.mbr_bps_min.as_ref(),
                0..=tollway_core::limits::RATE_BPS_MAX,
                0,
            ),
            usage_bytes: wire
                .usage_bytes
                .as_ref()
                .map(|bytes| self.ranged("usage_bytes", bytes, USAGE_BYTES)),
        };
        let how = "use a QCI without a priority service and a priority_level of 9 to 15";
        self.settled(Terms::of(&terms).map(|_| ()), gx.span(), how);
        if terms.usage_bytes.is_none()
            && matches!(tier.charge_by_bytes, Some(file::ChargeBy::Delivered) | None)
        {
            self.problem(
                gx.span(),
                "offers of bytes are charged by what is delivered, and no gateway is asked to report it",
                "set usage_bytes, e.g. to what a slot carries at the full rate, or charge_by_bytes = \"reserved\"",
            );
        }
        Some(terms)
    }
}
