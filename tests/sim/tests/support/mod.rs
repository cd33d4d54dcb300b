//! One engine behind its public inputs, for the admission oracles.

use tollway_core::offer::{Need, Offer, QuoteRequest, When};
use tollway_core::{
    Command, ConfigDef, Engine, Envelope, Input, Output, Refusal, Reply, RequestId, Reservation,
};
use tollway_model::{
    AccessId, Amount, BitsPerSecond, Currency, CustomerId, Direction, OfferId, SlotLength, Timestamp, Window,
};
use tollway_sim::market;

pub const T0: Timestamp = Timestamp(1_800_000_000_000);
pub const LINE: AccessId = AccessId(1);

pub struct Counter {
    pub engine: Engine,
    pub now: Timestamp,
    /// Records since they were last taken.
    pub records: Vec<Envelope>,
    pub journal: Vec<Envelope>,
    pub keeps_journal: bool,
    request: u64,
}

/// One pool, one access, one tier, so many customers with more money than they can spend.
pub fn config(bps: u64, sell_share_ppm: u32, customers: u32) -> ConfigDef {
    let mut config = market::config();
    config.pools = vec![market::pool("core", bps, sell_share_ppm)];
    config.pools[0].hold_share_ppm = 1_000_000;
    config.tiers.truncate(1);
    config.tiers[0].rate_max = BitsPerSecond(bps);
    config.tiers[0].rate_min = BitsPerSecond(1_000);
    config.accesses.retain(|access| access.name == "till");
    let till = config.customers[0].clone();
    config.customers = (1..=customers)
        .map(|n| {
            let mut customer = till.clone();
            customer.name = format!("customer {n}");
            customer.endpoints.retain(|endpoint| endpoint.access == "till");
            customer
        })
        .collect();
    config
}

impl Counter {
    pub fn new(slot_s: u32, config: ConfigDef) -> Counter {
        let mut counter = Counter {
            engine: Engine::new(),
            now: T0,
            records: Vec::new(),
            journal: Vec::new(),
            keeps_journal: false,
            request: 0,
        };
        let customers = config.customers.len();
        let slot_length = SlotLength::from_secs(slot_s).unwrap();
        counter.input(Input::MakeMarket { name: "oracle".into(), slot_length });
        let request = RequestId(0);
        let configured = counter.input(Input::Configure { request, base: 0, config });
        assert!(matches!(configured[..], [Reply::Configured { .. }]), "{configured:?}");
        for n in 1..=u32::try_from(customers).unwrap() {
            counter.input(Input::TopUp {
                request,
                key: None,
                customer: CustomerId(n),
                amount: Amount::new(1_000_000_000_000_000, Currency::EUR),
                actor: "ops".into(),
                reason: "oracle".into(),
            });
        }
        counter
    }

    pub fn input(&mut self, input: Input) -> Vec<Reply> {
        self.engine.handle(self.now, input);
        let records = self.engine.take_records();
        if self.keeps_journal {
            self.journal.extend(records.iter().cloned());
        }
        self.records.extend(records);
        let mut replies = Vec::new();
        while let Some(output) = self.engine.poll_output() {
            if let Output::Reply { reply, .. } = output {
                replies.push(reply);
            }
        }
        replies
    }

    pub fn ask(&mut self, customer: CustomerId, command: Command) -> Reply {
        self.request += 1;
        let request = RequestId(self.request);
        let mut replies = self.input(Input::Client { request, customer, key: None, command });
        replies.pop().expect("a command is answered")
    }

    pub fn quote(&mut self, customer: CustomerId, direction: Direction, window: Window, need: Need) -> Reply {
        let request = QuoteRequest {
            access: LINE,
            direction,
            tier: None,
            need,
            start: Some(When::At(window.from)),
            end: When::At(window.until),
            subscriber: None,
        };
        self.ask(customer, Command::Quote(request))
    }

    pub fn take(&mut self, customer: CustomerId, offer: OfferId) -> Result<Reservation, Refusal> {
        match self.ask(customer, Command::Take { offer }) {
            Reply::Reservation(reservation) => Ok(*reservation),
            Reply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub fn confirm(&mut self, customer: CustomerId, reservation: &Reservation) {
        let command = Command::Confirm { reservation: reservation.id, flows: None };
        assert!(matches!(self.ask(customer, command), Reply::Reservation(_)));
    }

    pub fn cancel(&mut self, customer: CustomerId, reservation: &Reservation) -> bool {
        matches!(self.ask(customer, Command::Cancel { reservation: reservation.id }), Reply::Reservation(_))
    }
}

/// The first offer of a quote.
pub fn first(reply: &Reply) -> Option<(OfferId, Offer)> {
    match reply {
        Reply::Quote(quote) => Some((OfferId { quote: quote.id, index: 0 }, quote.offers[0].clone())),
        _ => None,
    }
}
