//! A scenario that has been checked whole: every name resolved, every port given, nothing left to fail for a
//! reason that could have been known before.

use super::file::{self, Backend, BrokerAction, Congestion, LoadKind, Port, Role, Scenario, Take, Value};
use super::metric::{Metric, OTHERS, Subject};
use super::position::Flaw;
use super::units::BufferSize;
use crate::net::topology::{LAN_GATEWAY, SERVER};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;
use tollway_link::{Buffer, Config};

/// Most that one emulated line may be asked for: what the user-space hop is known to carry.
pub const LINE_BPS_MAX: u64 = 200_000_000;
/// Share of the line that the agent may shape to at most: above it the queue builds where no rule helps.
pub const SHAPE_PPM_MAX: u64 = 970_000;
const HOSTS_MAX: usize = 32;
const FIRST_STEP_PORT: u16 = 5_001;
const FIRST_LOAD_PORT: u16 = 6_001;
pub const ECHO_PORT: u16 = 7;

type Checked<T> = Result<T, Flaw>;

#[derive(Clone, Debug)]
pub struct Plan {
    pub name: String,
    pub title: String,
    pub seed: u64,
    pub backend: Backend,
    pub tcp: Congestion,
    pub up: Config,
    pub down: Config,
    pub hosts: Vec<PlannedHost>,
    pub market: Option<Market>,
    pub loads: BTreeMap<String, Load>,
    pub acts: Vec<Act>,
}

#[derive(Clone, Debug)]
pub struct PlannedHost {
    pub name: String,
    pub address: Ipv4Addr,
    pub wallet_micros: Option<u64>,
    pub probe: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Market {
    pub slot_s: u64,
    pub sell_share_ppm: u64,
    pub hold_share_ppm: u64,
    /// What the agent shapes the line to, in class rate.
    pub shaped_bps: u64,
    pub mbps_hour_micros: u64,
    pub gb_micros: u64,
    pub rate_max_bps: u64,
    pub overhead_ppm: u64,
}

#[derive(Clone, Debug)]
pub struct Load {
    pub name: String,
    pub from: String,
    pub port: u16,
    pub kind: LoadPlan,
}

#[derive(Clone, Copy, Debug)]
pub enum LoadPlan {
    Tcp { streams: usize },
    Udp { rate_bps: u64, dscp: u8 },
}

#[derive(Clone, Debug)]
pub struct Act {
    pub name: String,
    pub title: String,
    pub role: Option<Role>,
    pub loads: Vec<String>,
    pub warm_up_ns: u64,
    pub steps: Vec<Step>,
    pub expects: Vec<Expect>,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub at_ns: u64,
    /// Index in the act of the step that must have ended.
    pub after: Option<usize>,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub enum Action {
    Transfer(Transfer),
    Stream(Stream),
    Broker(BrokerAction),
    PortDown { port: Port, length_ns: u64 },
    Pause { length_ns: u64 },
}

#[derive(Clone, Debug)]
pub struct Transfer {
    pub name: String,
    pub from: String,
    pub port: u16,
    pub bytes: u64,
    pub deadline_ns: u64,
    pub cut_after_ns: u64,
    pub buy: Option<Take>,
}

#[derive(Clone, Debug)]
pub struct Stream {
    pub name: String,
    pub from: String,
    pub port: u16,
    pub rate_bps: u64,
    pub length_ns: u64,
    pub buy: Option<Take>,
}

#[derive(Clone, Debug)]
pub struct Expect {
    pub that: Metric,
    pub over: Option<Metric>,
    pub bound: Bound,
    /// As written, for the report.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    Is(Value),
    AtLeast(f64),
    AtMost(f64),
}

/// Flows of the steps, for the receiver's counters: name, protocol, source host, port.
impl Plan {
    pub fn flows(&self) -> impl Iterator<Item = (&str, u8, &str, u16)> {
        self.acts.iter().flat_map(|act| &act.steps).filter_map(|step| match &step.action {
            Action::Transfer(t) => Some((t.name.as_str(), 6, t.from.as_str(), t.port)),
            Action::Stream(s) => Some((s.name.as_str(), 17, s.from.as_str(), s.port)),
            Action::Broker(_) | Action::PortDown { .. } | Action::Pause { .. } => None,
        })
    }
}

/// Checks everything that can be known before anything is built.
pub fn make(scenario: Scenario) -> Checked<Plan> {
    let name = check_name(&scenario.lab.name)?;
    let hosts = plan_hosts(&scenario.host)?;
    let (up, down) = (plan_line(&scenario.line.up)?, plan_line(&scenario.line.down)?);
    let market = match &scenario.market {
        None => None,
        Some(market) => Some(plan_market(market, &scenario.line)?),
    };
    let loads = plan_loads(&scenario.load, &hosts)?;
    let mut planner = Planner { hosts: &hosts, market: market.is_some(), next_port: FIRST_STEP_PORT };
    let mut acts: Vec<Act> = Vec::new();
    let mut subjects: BTreeMap<String, Vec<(String, Subject)>> = BTreeMap::new();
    for act in &scenario.act {
        let act = act.get_ref();
        let span = act.name.span();
        if acts.iter().any(|known| known.name == *act.name.get_ref()) {
            return Err(Flaw::new(span, format!("two acts are named {:?}", act.name.get_ref())));
        }
        let planned = planner.act(act, &loads)?;
        subjects.insert(planned.name.clone(), subjects_of(&planned, &loads, planner.market));
        acts.push(planned);
    }
    one_meaning_each(&scenario, &acts)?;
    for (act, planned) in scenario.act.iter().zip(&mut acts) {
        planned.expects = act
            .get_ref()
            .expect
            .iter()
            .map(|e| plan_expect(e.get_ref(), e.span(), &planned.name, &subjects))
            .collect::<Checked<_>>()?;
    }
    let title = scenario.lab.title.unwrap_or_else(|| name.clone());
    let (seed, backend, tcp) = (scenario.lab.seed, scenario.lab.backend, scenario.lab.tcp);
    Ok(Plan { name, title, seed, backend, tcp, up, down, hosts, market, loads, acts })
}

fn check_name(name: &toml::Spanned<String>) -> Checked<String> {
    let text = name.get_ref();
    let good = !text.is_empty()
        && text.len() <= 32
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if good {
        return Ok(text.clone());
    }
    Err(Flaw::new(
        name.span(),
        format!("{text:?} is not a name: 1 to 32 of lower-case letters, digits and hyphens"),
    ))
}

fn plan_hosts(hosts: &BTreeMap<toml::Spanned<String>, file::Host>) -> Checked<Vec<PlannedHost>> {
    let mut planned: Vec<PlannedHost> = Vec::new();
    for (index, (key, host)) in hosts.iter().enumerate() {
        let name = check_name(key)?;
        if name == SERVER {
            return Err(Flaw::new(key.span(), "the server is always there; name the host otherwise"));
        }
        if index >= HOSTS_MAX {
            return Err(Flaw::new(key.span(), format!("more than {HOSTS_MAX} hosts")));
        }
        let automatic = Ipv4Addr::new(10, 10, 0, u8::try_from(100 + index).unwrap_or(u8::MAX));
        let address = host.address.as_ref().map_or(automatic, |a| *a.get_ref());
        let span = host.address.as_ref().map_or(key.span(), toml::Spanned::span);
        let [a, b, c, last] = address.octets();
        if [a, b, c] != [10, 10, 0] || !(2..=254).contains(&last) {
            return Err(Flaw::new(
                span,
                format!(
                    "{address} is not in the hosts' network: 10.10.0.2 to 10.10.0.254 ({LAN_GATEWAY} is the router)"
                ),
            ));
        }
        if let Some(other) = planned.iter().find(|h| h.address == address) {
            return Err(Flaw::new(span, format!("{address} is already the address of {}", other.name)));
        }
        let wallet_micros = host.wallet.map(|w| w.0);
        planned.push(PlannedHost { name, address, wallet_micros, probe: host.probe });
    }
    Ok(planned)
}

fn plan_line(line: &toml::Spanned<file::LineDirection>) -> Checked<Config> {
    let spec = line.get_ref();
    let rate_bps = spec.rate.get_ref().0;
    if rate_bps == 0 || rate_bps > LINE_BPS_MAX {
        return Err(Flaw::new(
            spec.rate.span(),
            format!("a line carries 1 bit/s to {} Mbit/s here", LINE_BPS_MAX / 1_000_000),
        ));
    }
    let buffer = match spec.buffer {
        BufferSize::Time(span) => Buffer::Time { ns: span.0 },
        BufferSize::Bytes(bytes) => Buffer::Bytes(bytes.0),
    };
    let config =
        Config { rate_bps: Some(rate_bps), overhead_bytes: spec.overhead, buffer, delay_ns: spec.delay.0 };
    if config.buffer_bytes() < 1_514 {
        return Err(Flaw::new(line.span(), "the buffer must hold one full frame (1,514 bytes)"));
    }
    Ok(config)
}

fn plan_market(market: &toml::Spanned<file::Market>, line: &file::Line) -> Checked<Market> {
    let spec = market.get_ref();
    let share = spec.shape_share.get_ref().0;
    if share > SHAPE_PPM_MAX || share == 0 {
        let span = if spec.shape_share.span().is_empty() { market.span() } else { spec.shape_share.span() };
        return Err(Flaw::new(
            span,
            "shape at most 97% of the line: above it the queue builds in the line, where no rule can help",
        ));
    }
    let slot_s = spec.slot.0 / crate::clock::SECOND;
    if slot_s == 0 || !spec.slot.0.is_multiple_of(crate::clock::SECOND) || 86_400 % slot_s != 0 {
        return Err(Flaw::new(market.span(), "a slot is whole seconds and divides a day"));
    }
    let narrowest = line.up.get_ref().rate.get_ref().0.min(line.down.get_ref().rate.get_ref().0);
    let shaped_bps = u128::from(narrowest) * u128::from(share) / 1_000_000;
    Ok(Market {
        slot_s,
        sell_share_ppm: spec.sell_share.0,
        hold_share_ppm: spec.hold_share.0,
        shaped_bps: u64::try_from(shaped_bps).unwrap_or(0),
        mbps_hour_micros: spec.mbps_hour.0,
        gb_micros: spec.gb.0,
        rate_max_bps: spec.rate_max.0,
        overhead_ppm: spec.overhead.0,
    })
}

fn known_host(hosts: &[PlannedHost], name: &toml::Spanned<String>) -> Checked<String> {
    let wanted = name.get_ref();
    if hosts.iter().any(|h| h.name == *wanted) {
        return Ok(wanted.clone());
    }
    let known = there_are(hosts.iter().map(|h| h.name.as_str()));
    Err(Flaw::new(name.span(), format!("no host is named {wanted:?}; {known}")))
}

/// The names that exist, for whoever wrote one that does not.
pub(super) fn there_are<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.as_slice() {
        [] => "there are none".into(),
        [one] => format!("there is {one}"),
        many => format!("there are {}", many.join(", ")),
    }
}

fn plan_loads(
    loads: &BTreeMap<toml::Spanned<String>, toml::Spanned<file::Load>>,
    hosts: &[PlannedHost],
) -> Checked<BTreeMap<String, Load>> {
    let mut planned = BTreeMap::new();
    for (port, (key, load)) in (FIRST_LOAD_PORT..).zip(loads) {
        let (span, load) = (load.span(), load.get_ref());
        let from = known_host(hosts, &load.from)?;
        let kind = match load.kind {
            LoadKind::Tcp => {
                if let Some(at) = load.rate.as_ref().map(toml::Spanned::span) {
                    return Err(Flaw::new(at, "a tcp load sends as much as it may; only udp has a rate"));
                }
                if let Some(at) = load.dscp.as_ref().map(toml::Spanned::span) {
                    return Err(Flaw::new(at, "only a udp load can be marked"));
                }
                let streams = load.streams.as_ref().map_or(1, |s| *s.get_ref());
                if !(1..=64).contains(&streams) {
                    return Err(Flaw::new(span, "a tcp load has 1 to 64 streams"));
                }
                LoadPlan::Tcp { streams: streams as usize }
            }
            LoadKind::Udp => {
                if let Some(at) = load.streams.as_ref().map(toml::Spanned::span) {
                    return Err(Flaw::new(at, "a udp load is one stream"));
                }
                let rate = load.rate.as_ref().ok_or_else(|| Flaw::new(span, "a udp load needs its rate"))?;
                let rate_bps = rate.get_ref().0;
                if rate_bps == 0 || rate_bps > LINE_BPS_MAX {
                    return Err(Flaw::new(rate.span(), "a udp load sends 1 bit/s to 200 Mbit/s"));
                }
                LoadPlan::Udp { rate_bps, dscp: load.dscp.as_ref().map_or(0, |d| d.get_ref().0) }
            }
        };
        let name = check_name(key)?;
        planned.insert(name.clone(), Load { name, from, port, kind });
    }
    Ok(planned)
}

struct Planner<'a> {
    hosts: &'a [PlannedHost],
    market: bool,
    next_port: u16,
}

impl Planner<'_> {
    fn act(&mut self, act: &file::Act, loads: &BTreeMap<String, Load>) -> Checked<Act> {
        for name in &act.load {
            if !loads.contains_key(name.get_ref()) {
                let known = there_are(loads.keys().map(String::as_str));
                let message = format!("no load is named {:?}; {known}", name.get_ref());
                return Err(Flaw::new(name.span(), message));
            }
        }
        let mut steps: Vec<Step> = Vec::new();
        for step in &act.step {
            let planned = self.step(step.get_ref(), step.span(), &steps)?;
            steps.push(planned);
        }
        Ok(Act {
            name: check_name(&act.name)?,
            title: act.title.clone(),
            role: act.role,
            loads: act.load.iter().map(|l| l.get_ref().clone()).collect(),
            warm_up_ns: act.warm_up.0,
            steps,
            expects: Vec::new(),
        })
    }

    fn step(&mut self, step: &file::Step, span: Range<usize>, before: &[Step]) -> Checked<Step> {
        let mut actions = Vec::new();
        if let Some(transfer) = &step.transfer {
            actions.push(self.transfer(transfer)?);
        }
        if let Some(stream) = &step.stream {
            actions.push(self.stream(stream)?);
        }
        if let Some(action) = step.broker {
            if !self.market {
                return Err(Flaw::new(span, "there is no broker without a [market]"));
            }
            actions.push(Action::Broker(action));
        }
        if let Some(down) = &step.port_down {
            actions.push(Action::PortDown { port: down.port, length_ns: down.length.0 });
        }
        if let Some(length) = step.pause {
            actions.push(Action::Pause { length_ns: length.0 });
        }
        let [action] = <[Action; 1]>::try_from(actions).map_err(|_| {
            Flaw::new(span, "a step does exactly one of transfer, stream, broker, port_down, pause")
        })?;
        let after = match &step.after {
            None => None,
            Some(name) => {
                Some(before.iter().position(|s| s.name() == Some(name.get_ref())).ok_or_else(|| {
                    let known = there_are(before.iter().filter_map(Step::name));
                    let message =
                        format!("no earlier step of this act is named {:?}; {known}", name.get_ref());
                    Flaw::new(name.span(), message)
                })?)
            }
        };
        Ok(Step { at_ns: step.at.0, after, action })
    }

    fn port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port - 1
    }

    fn buyer(&self, from: &str, buy: Option<&toml::Spanned<file::Buy>>) -> Checked<Option<Take>> {
        let Some(buy) = buy else { return Ok(None) };
        if !self.market {
            return Err(Flaw::new(buy.span(), "nothing can be bought without a [market]"));
        }
        let wallet = self.hosts.iter().any(|h| h.name == from && h.wallet_micros.is_some());
        if !wallet {
            return Err(Flaw::new(buy.span(), format!("{from} has no wallet: give host.{from} one to buy")));
        }
        Ok(Some(buy.get_ref().take))
    }

    fn transfer(&mut self, transfer: &file::Transfer) -> Checked<Action> {
        let from = known_host(self.hosts, &transfer.from)?;
        let bytes = transfer.bytes.get_ref().0;
        let deadline_ns = transfer.deadline.get_ref().0;
        if bytes == 0 {
            return Err(Flaw::new(transfer.bytes.span(), "a transfer moves at least one byte"));
        }
        if deadline_ns == 0 {
            return Err(Flaw::new(transfer.deadline.span(), "a deadline lies after the start"));
        }
        Ok(Action::Transfer(Transfer {
            name: check_name(&transfer.name)?,
            buy: self.buyer(&from, transfer.buy.as_ref())?,
            from,
            port: self.port(),
            bytes,
            deadline_ns,
            cut_after_ns: transfer.cut_after.0,
        }))
    }

    fn stream(&mut self, stream: &file::Stream) -> Checked<Action> {
        let from = known_host(self.hosts, &stream.from)?;
        let rate_bps = stream.rate.get_ref().0;
        if rate_bps == 0 || rate_bps > LINE_BPS_MAX {
            return Err(Flaw::new(stream.rate.span(), "a stream sends 1 bit/s to 200 Mbit/s"));
        }
        if stream.length.get_ref().0 == 0 {
            return Err(Flaw::new(stream.length.span(), "a stream lasts longer than nothing"));
        }
        Ok(Action::Stream(Stream {
            name: check_name(&stream.name)?,
            buy: self.buyer(&from, stream.buy.as_ref())?,
            from,
            port: self.port(),
            rate_bps,
            length_ns: stream.length.get_ref().0,
        }))
    }
}

impl Step {
    /// The host that sends the flow, if it makes one.
    pub fn from(&self) -> Option<&str> {
        match &self.action {
            Action::Transfer(t) => Some(&t.from),
            Action::Stream(s) => Some(&s.from),
            Action::Broker(_) | Action::PortDown { .. } | Action::Pause { .. } => None,
        }
    }

    /// Name of the flow that it makes, if it makes one.
    pub fn name(&self) -> Option<&str> {
        match &self.action {
            Action::Transfer(t) => Some(&t.name),
            Action::Stream(s) => Some(&s.name),
            Action::Broker(_) | Action::PortDown { .. } | Action::Pause { .. } => None,
        }
    }
}

/// A flow's name means one flow in the whole scenario, and is no load's name.
fn one_meaning_each(scenario: &Scenario, acts: &[Act]) -> Checked<()> {
    let mut seen: Vec<&str> = scenario.load.keys().map(|k| k.get_ref().as_str()).collect();
    seen.push(OTHERS);
    for (written, planned) in scenario.act.iter().zip(acts) {
        for (step, at) in planned.steps.iter().zip(&written.get_ref().step) {
            let Some(name) = step.name() else { continue };
            if seen.contains(&name) {
                return Err(Flaw::new(at.span(), format!("{name:?} already names another flow")));
            }
            seen.push(name);
        }
    }
    Ok(())
}

fn subjects_of(act: &Act, loads: &BTreeMap<String, Load>, market: bool) -> Vec<(String, Subject)> {
    let mut all = vec![(OTHERS.to_owned(), Subject::Others { market })];
    for step in &act.steps {
        match &step.action {
            Action::Transfer(t) => {
                all.push((t.name.clone(), Subject::Transfer { bought: t.buy.is_some() }));
            }
            Action::Stream(s) => all.push((s.name.clone(), Subject::Stream { bought: s.buy.is_some() })),
            Action::Broker(_) | Action::PortDown { .. } | Action::Pause { .. } => {}
        }
    }
    for name in &act.loads {
        let subject = match loads.get(name).map(|l| l.kind) {
            Some(LoadPlan::Tcp { .. }) => Subject::TcpLoad,
            Some(LoadPlan::Udp { .. }) | None => Subject::UdpLoad,
        };
        all.push((name.clone(), subject));
    }
    all
}

fn plan_expect(
    expect: &file::Expect,
    span: Range<usize>,
    act: &str,
    subjects: &BTreeMap<String, Vec<(String, Subject)>>,
) -> Checked<Expect> {
    let that = plan_metric(&expect.that, act, subjects)?;
    let over = expect.over.as_ref().map(|over| plan_metric(over, act, subjects)).transpose()?;
    let (bound, text) = match (expect.is, expect.at_least, expect.at_most) {
        (Some(value), None, None) => (Bound::Is(value), format!("is {}", value.text())),
        (None, Some(least), None) => (Bound::AtLeast(least), format!("≥ {least}")),
        (None, None, Some(most)) => (Bound::AtMost(most), format!("≤ {most}")),
        _ => return Err(Flaw::new(span, "an expectation has exactly one of is, at_least, at_most")),
    };
    let subject = match &expect.over {
        None => expect.that.get_ref().clone(),
        Some(over) => format!("{} / {}", expect.that.get_ref(), over.get_ref()),
    };
    Ok(Expect { that, over, bound, text: format!("{subject} {text}") })
}

fn plan_metric(
    text: &toml::Spanned<String>,
    act: &str,
    subjects: &BTreeMap<String, Vec<(String, Subject)>>,
) -> Checked<Metric> {
    let flaw = |message: String| Flaw::new(text.span(), message);
    let metric = Metric::parse(text.get_ref(), act)
        .ok_or_else(|| flaw("a figure is written [act:]subject.figure".into()))?;
    let known = subjects.get(&metric.act).ok_or_else(|| {
        let names = there_are(subjects.keys().map(String::as_str));
        flaw(format!("no act is named {:?}; {names}", metric.act))
    })?;
    let Some((_, subject)) = known.iter().find(|(name, _)| *name == metric.subject) else {
        let names = there_are(known.iter().map(|(name, _)| name.as_str()));
        return Err(flaw(format!("act {:?} has no {:?}; {names}", metric.act, metric.subject)));
    };
    let figures = subject.figures();
    if !figures.contains(&metric.figure.as_str()) {
        return Err(flaw(format!(
            "{:?} has no figure {:?}; it has {}",
            metric.subject,
            metric.figure,
            figures.join(", ")
        )));
    }
    Ok(metric)
}

impl Value {
    pub fn text(self) -> String {
        match self {
            Value::Bool(truth) => truth.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Integer(number) => number.to_string(),
        }
    }

    /// A truth is 1 or 0.
    pub fn number(self) -> f64 {
        match self {
            Value::Bool(truth) => f64::from(u8::from(truth)),
            Value::Number(number) => number,
            Value::Integer(number) => number as f64,
        }
    }
}
