//! The engine itself: routing only. Timers that are due run before the input; records are applied as they
//! are made, so that a later input of the same batch sees the earlier one; every output carries the last
//! record that was applied when it was made.

use crate::apply::apply;
use crate::config::AccessDef;
use crate::decide::{Answer, Decided, Decision};
use crate::input::{Command, IdempotencyKey, Input, Output, RequestId};
use crate::limits;
use crate::presence::{self, Presence};
use crate::record::{Answered, Envelope, Fact, MarketMade, Record, Reply};
use crate::refusal::{Code, Refusal};
use crate::reservation::{LegState, Reservation};
use crate::state::State;
use crate::{cancel, configure, confirm, invariants, quote, report, take, timer, wallet};
use std::collections::{BTreeMap, VecDeque};
use tollway_billing::AccountId;
use tollway_model::{Amount, CustomerId, ReservationId, Seq, Timestamp};
use tollway_policy::{PolicyCommand, Report};

#[derive(Default)]
pub struct Engine {
    state: State,
    presence: Presence,
    records: Vec<Envelope>,
    outputs: VecDeque<Output>,
}

impl Engine {
    /// An engine without a market: its first input makes one, or its journal is replayed.
    pub fn new() -> Engine {
        Engine::default()
    }

    /// Applies one committed record, in order. No outputs: what was said was said.
    pub fn replay(&mut self, envelope: &Envelope) {
        apply(&mut self.state, envelope);
    }

    /// One step. `now` never goes backwards.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        let now = now.max(self.state.last_at);
        self.run_timers(now);
        match input {
            Input::MakeMarket { name, slot_length } => {
                if self.state.market.is_none() {
                    self.record(now, None, Record::MarketMade(MarketMade { name, slot_length }));
                }
            }
            Input::Configure { request, base, config } => {
                let decided = configure::decide(&self.state, base, &config);
                self.finish(now, request, None, decided);
            }
            Input::Client { request, customer, key, command } => {
                self.command(now, request, customer, key, &command);
            }
            Input::TopUp { request, key, customer, amount, actor, reason } => {
                if !self.repeats(request, key) {
                    let decided = wallet::top_up(&self.state, customer, amount, &actor, &reason);
                    self.finish(now, request, key.map(|key| (customer, key)), decided);
                }
            }
            Input::AdapterConnected { enforcement_point, connection } => {
                self.adapter_connected(now, enforcement_point, connection);
            }
            Input::AdapterDisconnected { enforcement_point, connection } => {
                self.presence.disconnected(&enforcement_point, connection);
            }
            Input::Reports { enforcement_point, number, reports } => {
                self.reports(now, enforcement_point, number, &reports);
            }
            Input::Tick => {}
        }
        #[cfg(debug_assertions)]
        self.check_small();
    }

    /// Records made since the last call, in order.
    pub fn take_records(&mut self) -> Vec<Envelope> {
        std::mem::take(&mut self.records)
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When something is next due by itself, and what.
    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        self.state.timers.first().map(|(due, timer)| (*due, timer.what.as_str()))
    }

    pub fn last_seq(&self) -> Seq {
        self.state.last_seq
    }

    pub fn last_at(&self) -> Timestamp {
        self.state.last_at
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Legs that each enforcement point reported and that nobody wants, since this engine was made.
    pub fn strays(&self) -> &BTreeMap<String, u64> {
        self.presence.strays()
    }

    /// Everything that must hold between two steps.
    ///
    /// # Errors
    /// Names the first invariant that does not hold.
    pub fn check_invariants(&self) -> Result<(), String> {
        invariants::check(&self.state)
    }

    #[cfg(debug_assertions)]
    fn check_small(&self) {
        const SMALL: usize = 64;
        if self.state.reservations.len() <= SMALL
            && self.state.learnt.len() <= SMALL
            && let Err(broken) = invariants::check(&self.state)
        {
            panic!("a broken invariant: {broken}");
        }
    }

    fn run_timers(&mut self, now: Timestamp) {
        while let Some((due, next)) = self.state.timers.first().copied() {
            if due > now {
                break;
            }
            self.state.timers.remove(&(due, next));
            for record in timer::decide(&self.state, due, next) {
                self.record(now, Some(due), record);
            }
        }
    }

    fn command(
        &mut self,
        now: Timestamp,
        request: RequestId,
        customer: CustomerId,
        key: Option<IdempotencyKey>,
        command: &Command,
    ) {
        if self.repeats(request, key) {
            return;
        }
        // Giving up a promise is never refused for want of room.
        let gives_up = matches!(command, Command::Cancel { .. });
        if key.is_some() && !gives_up && self.state.keys_alive(customer, now) >= limits::KEYS_PER_CUSTOMER_MAX
        {
            let refusal = Refusal::new(Code::TooMany, "this customer has as many keys alive as are kept");
            self.reply(request, Reply::Refused(refusal));
            return;
        }
        let state = &self.state;
        let decided = match command {
            Command::Quote(need) => quote::decide(state, now, customer, need),
            Command::Take { offer } => take::decide(state, now, customer, *offer),
            Command::Confirm { reservation, flows } => {
                confirm::confirm(state, now, customer, *reservation, flows.as_deref(), &self.presence)
            }
            Command::BindFlows { reservation, flows } => {
                confirm::bind_flows(state, customer, *reservation, flows)
            }
            Command::Cancel { reservation } => cancel::decide(state, now, customer, *reservation),
        };
        self.finish(now, request, key.map(|key| (customer, key)), decided);
    }

    /// Whether the key was used before; then the request is answered from the store, or refused.
    fn repeats(&mut self, request: RequestId, key: Option<IdempotencyKey>) -> bool {
        let Some(key) = key else { return false };
        match self.state.keys.get(&key.key) {
            Some(entry) if entry.request == key.request => {
                let (after, at) = (self.state.last_seq, entry.at);
                self.outputs.push_back(Output::Repeat { after, request, at });
            }
            Some(_) => {
                let refusal = Refusal::new(Code::KeyReused, "this key was used for another request");
                self.reply(request, Reply::Refused(refusal));
            }
            None => return false,
        }
        true
    }

    /// Applies a decision and answers it; an answer that is to be kept is a record of the same append.
    fn finish(
        &mut self,
        now: Timestamp,
        request: RequestId,
        key: Option<(CustomerId, IdempotencyKey)>,
        decided: Decided,
    ) {
        let (reply, reservation) = match decided {
            Ok(Decision { records, answer }) => {
                for record in records {
                    self.record(now, None, record);
                }
                self.answer(answer)
            }
            Err(refusal) => (Reply::Refused(refusal), None),
        };
        let kept = match &reply {
            Reply::Refused(refusal) => refusal.code.is_stored(),
            Reply::Quote(_) | Reply::Reservation(_) | Reply::ToppedUp { .. } | Reply::Configured { .. } => {
                true
            }
        };
        if let Some((customer, key)) = key.filter(|_| kept) {
            let answered =
                Answered { customer, key: key.key, request: key.request, reservation, reply: reply.clone() };
            self.record(now, None, Record::Answered(answered));
        }
        self.reply(request, reply);
    }

    fn answer(&self, answer: Answer) -> (Reply, Option<ReservationId>) {
        match answer {
            Answer::Quote(id) => {
                let quote = self.state.quotes.get(&id).cloned().expect("a quote just made exists");
                (Reply::Quote(quote), None)
            }
            Answer::Counter(refusal, _) => (Reply::Refused(refusal), None),
            Answer::Reservation(id) => {
                let reservation = self.state.reservations.get(&id).cloned();
                let reservation = reservation.expect("a reservation just changed exists");
                (Reply::Reservation(Box::new(reservation)), Some(id))
            }
            Answer::ToppedUp(customer) => {
                let def = self.state.config.customers.get(&customer).expect("a customer topped up exists");
                let wallet = AccountId::wallet(customer, def.currency);
                let balance = Amount { micros: self.state.ledger.balance(wallet), currency: def.currency };
                (Reply::ToppedUp { customer, balance }, None)
            }
            Answer::Configured { changes } => {
                let deficits = configure::deficits_left(&self.state);
                (Reply::Configured { revision: self.state.config.revision, changes, deficits }, None)
            }
        }
    }

    fn adapter_connected(&mut self, now: Timestamp, enforcement_point: String, connection: u64) {
        self.presence.connected(&enforcement_point, connection);
        if let Some(told) = presence::told(&self.state, &enforcement_point) {
            self.record(now, None, told);
        }
        let after = self.state.last_seq;
        let of_point = |access: &AccessDef| access.enforcement_point == enforcement_point;
        let mut legs = Vec::new();
        let mut releases = Vec::new();
        for reservation in self.state.reservations.values() {
            let Some(access) = self.state.config.accesses.get(&reservation.access).filter(|a| of_point(a))
            else {
                continue;
            };
            if reservation.promise.is_confirmed() && reservation.leg.state != LegState::Absent {
                legs.push(self.state.desired(reservation, access));
            } else if reservation.leg.state == LegState::Removing {
                releases.push(release(reservation, access));
            }
        }
        let sessions = self.state.learnt.sessions_at(&enforcement_point).cloned().collect();
        let acked = self.state.last_batch(&enforcement_point);
        let set = Output::DesiredSet { after, enforcement_point, connection, legs, sessions, acked };
        self.outputs.push_back(set);
        for command in releases {
            self.outputs.push_back(Output::Policy { after, command });
        }
    }

    fn reports(&mut self, now: Timestamp, enforcement_point: String, number: u64, reports: &[Report]) {
        let judged = report::decide(&self.state, now, &enforcement_point, number, reports);
        if let Some(record) = judged.record {
            self.record(now, None, record);
        }
        self.presence.count_strays(&enforcement_point, judged.strangers.len());
        for (leg, attempt) in judged.strangers {
            let after = self.state.last_seq;
            let enforcement_point = enforcement_point.clone();
            let command = PolicyCommand::Release { leg, attempt, enforcement_point, access: None };
            self.outputs.push_back(Output::Policy { after, command });
        }
        let number = self.state.last_batch(&enforcement_point).max(number);
        let after = self.state.last_seq;
        self.outputs.push_back(Output::Ack { after, enforcement_point, number });
    }

    /// Applies a record, queues what it causes, and settles what it made final.
    fn record(&mut self, at: Timestamp, due: Option<Timestamp>, record: Record) {
        let envelope = Envelope { seq: self.state.last_seq.next(), at, due, record };
        apply(&mut self.state, &envelope);
        self.effects(&envelope);
        let mut endings = Vec::new();
        let touched: Vec<ReservationId> = match &envelope.record {
            Record::Ended(ended) => vec![ended.reservation],
            Record::Reported(reported) => {
                endings = report::withdrawn(&self.state, reported);
                reported.facts.iter().filter_map(reservation_of).collect()
            }
            Record::MarketMade(_)
            | Record::Configured(_)
            | Record::Quoted(_)
            | Record::Held(_)
            | Record::HoldExpired { .. }
            | Record::Confirmed { .. }
            | Record::FlowsBound { .. }
            | Record::Started { .. }
            | Record::LegRetried { .. }
            | Record::Settled { .. }
            | Record::ToppedUp { .. }
            | Record::Answered(_)
            | Record::LegsTold(_) => Vec::new(),
        };
        self.records.push(envelope);
        for record in endings {
            self.record(at, due, record);
        }
        for id in touched {
            let final_hold =
                self.state.reservations.get(&id).filter(|r| r.may_settle()).map(|r| r.money.held);
            if let Some(voided) = final_hold {
                self.record(at, due, Record::Settled { reservation: id, voided, timed_out: false });
            }
        }
    }

    /// Commands to adapters that a record causes. Who is not connected gets everything when it is.
    fn effects(&mut self, envelope: &Envelope) {
        let (id, wants) = match &envelope.record {
            Record::Confirmed { reservation, .. } | Record::FlowsBound { reservation, .. } => {
                (*reservation, true)
            }
            Record::LegRetried { leg, .. } => (leg.reservation, true),
            Record::Ended(ended) => (ended.reservation, false),
            Record::MarketMade(_)
            | Record::Configured(_)
            | Record::Quoted(_)
            | Record::Held(_)
            | Record::HoldExpired { .. }
            | Record::Started { .. }
            | Record::Reported(_)
            | Record::Settled { .. }
            | Record::ToppedUp { .. }
            | Record::Answered(_)
            | Record::LegsTold(_) => return,
        };
        let Some(reservation) = self.state.reservations.get(&id) else { return };
        let Some(access) = self.state.config.accesses.get(&reservation.access) else { return };
        if !self.presence.is_here(&access.enforcement_point) {
            return;
        }
        let command = if wants && reservation.promise.is_confirmed() {
            PolicyCommand::Desire(self.state.desired(reservation, access))
        } else if !wants && reservation.leg.state == LegState::Removing {
            release(reservation, access)
        } else {
            return;
        };
        self.outputs.push_back(Output::Policy { after: self.state.last_seq, command });
    }

    fn reply(&mut self, request: RequestId, reply: Reply) {
        self.outputs.push_back(Output::Reply { after: self.state.last_seq, request, reply });
    }
}

fn release(reservation: &Reservation, access: &AccessDef) -> PolicyCommand {
    PolicyCommand::Release {
        leg: reservation.leg_id(),
        attempt: reservation.leg.attempt,
        enforcement_point: access.enforcement_point.clone(),
        access: reservation.mobile_access(access),
    }
}

fn reservation_of(fact: &Fact) -> Option<ReservationId> {
    match fact {
        Fact::Leg { leg, .. } => Some(leg.reservation),
        Fact::Usage(usage) => Some(usage.reading.leg.reservation),
        Fact::Port(..) | Fact::Session(_) => None,
    }
}
