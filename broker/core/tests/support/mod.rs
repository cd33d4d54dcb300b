//! A small market around an engine: every step is drained and its invariants checked.
#![allow(dead_code, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use std::net::IpAddr;
use tollway_billing::curve::Knot;
use tollway_billing::{Curve, Tariff};
use tollway_core::config::{
    AccessDef, ChargeBy, ConfigDef, CustomerDef, EndpointDef, LegalBasis, PoolDef, SideDef, TierDef, TierKind,
};
use tollway_core::offer::{Need, Offer, QuoteRequest, When};
use tollway_core::{Code, Command, Engine, Envelope, Input, Output, Reply, RequestId, Reservation};
use tollway_model::{
    AccessId, Amount, BitsPerSecond, Currency, CustomerId, Direction, Flow, Micros, OfferId, Protocol,
    ReservationId, Slot, SlotLength, Timestamp,
};
use tollway_policy::{ClassShape, DesiredLeg, PolicyCommand, PolicyReport, Reading, Report, SlotReading};

pub const SHOP: CustomerId = CustomerId(1);
pub const RIVAL: CustomerId = CustomerId(2);
pub const LINE: AccessId = AccessId(1);
pub const T0: Timestamp = Timestamp(1_800_000_000_000);

pub fn config() -> ConfigDef {
    let knots = [(0, 1_000_000), (700_000, 1_000_000), (1_000_000, 3_000_000)]
        .map(|(utilisation_ppm, multiplier_ppm)| Knot { utilisation_ppm, multiplier_ppm });
    let pool = PoolDef {
        name: "shared".into(),
        up: BitsPerSecond(38_800_000),
        down: BitsPerSecond(38_800_000),
        sell_share_ppm: 500_000,
        hold_share_ppm: 1_000_000,
    };
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
        rate_min: BitsPerSecond(64_000),
        rate_max: BitsPerSecond(30_000_000),
        notice_s: 0,
        cancel_fee_ppm: 0,
        tariff: Tariff {
            name: "gold-2026".into(),
            currency: Currency::EUR,
            mbps_hour: Micros(20_000),
            gb: Micros(50_000),
            setup: Micros(0),
            curve: Curve::new(knots.to_vec()).unwrap(),
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
    let customer = |name: &str, prefix: &str| CustomerDef {
        name: name.into(),
        currency: Currency::EUR,
        endpoints: vec![EndpointDef { access: "shop".into(), addresses: vec![prefix.parse().unwrap()] }],
    };
    ConfigDef {
        pools: vec![pool],
        tiers: vec![tier],
        accesses: vec![access],
        customers: vec![customer("shop-pos", "10.10.0.0/24"), customer("rival", "10.10.0.0/24")],
    }
}

pub struct World {
    pub engine: Engine,
    pub now: Timestamp,
    pub request: u64,
    pub journal: Vec<Envelope>,
    pub commands: Vec<PolicyCommand>,
    pub sets: Vec<Vec<DesiredLeg>>,
    pub replies: Vec<Reply>,
    pub repeats: Vec<tollway_model::Seq>,
}

impl World {
    pub fn new() -> World {
        let mut world = World {
            engine: Engine::new(),
            now: T0,
            request: 0,
            journal: Vec::new(),
            commands: Vec::new(),
            sets: Vec::new(),
            replies: Vec::new(),
            repeats: Vec::new(),
        };
        world.input(Input::MakeMarket { name: "lab".into(), slot_length: SlotLength::from_secs(5).unwrap() });
        let configured = world.configure(config());
        assert!(matches!(configured, Reply::Configured { revision: 1, .. }), "{configured:?}");
        for customer in [SHOP, RIVAL] {
            world.top_up(customer, 10_000_000);
        }
        world.agent_connects();
        world
    }

    pub fn agent_connects(&mut self) {
        self.input(Input::AdapterConnected { enforcement_point: "router1".into(), connection: 1 });
    }

    pub fn agent_leaves(&mut self) {
        self.input(Input::AdapterDisconnected { enforcement_point: "router1".into(), connection: 1 });
    }

    pub fn input(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        self.journal.extend(self.engine.take_records());
        let last = self.engine.last_seq();
        while let Some(output) = self.engine.poll_output() {
            assert!(output.after() <= last);
            match output {
                Output::Reply { reply, .. } => self.replies.push(reply),
                Output::Policy { command, .. } => self.commands.push(command),
                Output::Repeat { at, .. } => self.repeats.push(at),
                Output::DesiredSet { legs, .. } => self.sets.push(legs),
                Output::Ack { .. } => {}
            }
        }
        self.engine.check_invariants().unwrap();
    }

    pub fn request(&mut self) -> RequestId {
        self.request += 1;
        RequestId(self.request)
    }

    pub fn configure(&mut self, config: ConfigDef) -> Reply {
        let request = self.request();
        let base = self.engine.state().config.revision;
        self.input(Input::Configure { request, base, config });
        self.replies.pop().unwrap()
    }

    pub fn top_up(&mut self, customer: CustomerId, micros: i64) {
        let request = self.request();
        let amount = Amount::new(micros, Currency::EUR);
        self.input(Input::TopUp {
            request,
            key: None,
            customer,
            amount,
            actor: "noc".into(),
            reason: "test".into(),
        });
        assert!(matches!(self.replies.pop(), Some(Reply::ToppedUp { .. })));
    }

    pub fn command(&mut self, customer: CustomerId, command: Command) -> Reply {
        let request = self.request();
        self.input(Input::Client { request, customer, key: None, command });
        self.replies.pop().unwrap()
    }

    pub fn request_for(&self, need: Need, seconds: u64) -> QuoteRequest {
        QuoteRequest {
            access: LINE,
            direction: Direction::Up,
            tier: None,
            need,
            start: None,
            end: When::In(seconds * 1000),
            subscriber: None,
        }
    }

    pub fn quote(&mut self, need: Need, seconds: u64) -> Reply {
        let request = self.request_for(need, seconds);
        self.command(SHOP, Command::Quote(request))
    }

    pub fn offer(&mut self, need: Need, seconds: u64) -> (OfferId, Offer) {
        match self.quote(need, seconds) {
            Reply::Quote(quote) => (OfferId { quote: quote.id, index: 0 }, quote.offers[0].clone()),
            other => panic!("{other:?}"),
        }
    }

    pub fn reservation(&mut self, customer: CustomerId, command: Command) -> Reservation {
        match self.command(customer, command) {
            Reply::Reservation(reservation) => *reservation,
            other => panic!("{other:?}"),
        }
    }

    pub fn code(&mut self, customer: CustomerId, command: Command) -> Code {
        match self.command(customer, command) {
            Reply::Refused(refusal) => refusal.code,
            other => panic!("{other:?}"),
        }
    }

    pub fn confirmed(&mut self, need: Need, seconds: u64) -> Reservation {
        let (offer, _) = self.offer(need, seconds);
        let held = self.reservation(SHOP, Command::Take { offer });
        self.reservation(SHOP, Command::Confirm { reservation: held.id, flows: Some(vec![flow(40_000)]) })
    }

    pub fn report(&mut self, reports: Vec<Report>) {
        let number = self.engine.state().last_batch("router1") + 1;
        self.input(Input::Reports { enforcement_point: "router1".into(), number, reports });
    }

    pub fn active(&mut self, reservation: &Reservation) {
        let leg = reservation.leg_id();
        let attempt = reservation.leg.attempt;
        let at = self.now;
        self.report(vec![
            Report::Leg { leg, attempt, report: PolicyReport::Accepted },
            Report::Leg { leg, attempt, report: PolicyReport::Active { at } },
        ]);
    }

    pub fn get(&self, id: ReservationId) -> &Reservation {
        self.engine.state().reservation(id).unwrap()
    }
}

pub fn flow(port: u16) -> Flow {
    let device: IpAddr = "10.10.0.2".parse().unwrap();
    Flow {
        protocol: Protocol::Tcp,
        device,
        device_port: Some(port),
        remote: "10.20.0.2".parse().unwrap(),
        remote_port: 5001,
    }
}

pub fn reading(reservation: &Reservation, seq: u64, slot: Slot, bytes: u64, last: bool) -> Report {
    Report::Usage(SlotReading {
        leg: reservation.leg_id(),
        attempt: reservation.leg.attempt,
        incarnation: 7,
        seq,
        slot,
        sold: Reading { bytes, packets: bytes / 1500, drops: 0 },
        reverse: Reading::default(),
        active_ms: 5_000,
        busy_ms: 5_000,
        gap_ms_max: 0,
        seen: true,
        last,
        at: Timestamp(slot.0.saturating_add(1).saturating_mul(5_000)),
        unconfirmed_ms: 0,
    })
}
