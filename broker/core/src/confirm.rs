//! Confirming a hold and binding flows.

use crate::config::EndpointDef;
use crate::decide::{Answer, Decided, Decision, own};
use crate::limits;
use crate::offer;
use crate::presence::Presence;
use crate::quote;
use crate::record::Record;
use crate::refusal::{Code, Refusal};
use crate::reservation::{Promise, Reservation};
use crate::state::State;
use crate::take;
use std::net::IpAddr;
use tollway_model::{CustomerId, Flow, ReservationId, Timestamp};
use tollway_policy::Session;

pub(crate) fn confirm(
    state: &State,
    now: Timestamp,
    customer: CustomerId,
    id: ReservationId,
    flows: Option<&[Flow]>,
    presence: &Presence,
) -> Decided {
    let reservation = own(state, customer, id)?;
    match reservation.promise {
        Promise::Held { expires } if now < expires => {
            let terms = &reservation.terms;
            if !offer::is_in_time(&reservation.schedule, reservation.bytes, terms, now) {
                return Err(Refusal::new(Code::QuoteExpired, take::TOO_LATE));
            }
        }
        Promise::Held { .. } => return Err(Refusal::new(Code::QuoteExpired, "the hold has expired")),
        Promise::Booked | Promise::Running => {
            return Err(Refusal::new(Code::WrongState, "the reservation is confirmed already"));
        }
        Promise::Ended { reason, .. } => {
            let message = format!("the reservation has ended: {}", reason.as_str());
            return Err(Refusal::new(Code::WrongState, message));
        }
    }
    let mut records = Vec::new();
    if let Some(flows) = flows {
        check_flows(state, reservation, flows)?;
        records.push(Record::FlowsBound { reservation: id, flows: flows.to_vec() });
    }
    let missing = presence.missing(state, reservation.access);
    records.push(Record::Confirmed { reservation: id, missing });
    if now >= reservation.window.from {
        records.push(Record::Started { reservation: id });
    }
    Ok(Decision { records, answer: Answer::Reservation(id) })
}

pub(crate) fn bind_flows(state: &State, customer: CustomerId, id: ReservationId, flows: &[Flow]) -> Decided {
    let reservation = own(state, customer, id)?;
    if let Promise::Ended { reason, .. } = reservation.promise {
        let message = format!("the reservation has ended: {}", reason.as_str());
        return Err(Refusal::new(Code::WrongState, message));
    }
    check_flows(state, reservation, flows)?;
    let record = Record::FlowsBound { reservation: id, flows: flows.to_vec() };
    Ok(Decision { records: vec![record], answer: Answer::Reservation(id) })
}

/// Flows are few, of one family each, behind an endpoint of the customer at this access, and nobody else's:
/// otherwise anyone could throttle anyone by reserving 1 kbit/s for a stranger's flow.
fn check_flows(state: &State, reservation: &Reservation, flows: &[Flow]) -> Result<(), Refusal> {
    if flows.len() > limits::FLOWS_MAX {
        let message = format!("a reservation has at most {} flows", limits::FLOWS_MAX);
        let fix =
            format!("name at most {} flows; without `device.port` one covers all ports", limits::FLOWS_MAX);
        return Err(Refusal::new(Code::OutOfRange, message).fix(fix));
    }
    let device = Device::of(state, reservation)?;
    for (index, flow) in flows.iter().enumerate() {
        if !flow.is_one_family() {
            let message = format!("flow {index}: both ends are of one family");
            let fix = "name device and remote both by IPv4 or both by IPv6 addresses";
            return Err(Refusal::new(Code::OutOfRange, message).fix(fix));
        }
        if flow.remote_port == 0 || flow.device_port == Some(0) {
            let message = format!("flow {index}: a port is 1 to 65535");
            return Err(Refusal::new(Code::OutOfRange, message).fix("use a port from 1 to 65535"));
        }
        if flows[..index].iter().any(|before| before.overlaps(flow)) {
            let message = format!("flow {index} overlaps an earlier one");
            let fix =
                "leave one of the two out: a flow without `device.port` covers every port of the device";
            return Err(Refusal::new(Code::OutOfRange, message).fix(fix));
        }
        if let Err(why) = device.check(flow.device) {
            return Err(Refusal::new(Code::EndpointNotAllowed, format!("flow {index}: {why}")));
        }
        if state.flow_conflict(reservation, flow) {
            let message = format!("flow {index} is covered by another reservation in this window");
            return Err(Refusal::new(Code::FlowConflict, message));
        }
    }
    Ok(())
}

/// What a flow's device may be.
struct Device<'a> {
    endpoints: Vec<&'a EndpointDef>,
    /// The present session of a learnt access.
    session: Option<&'a Session>,
}

impl<'a> Device<'a> {
    fn of(state: &'a State, reservation: &Reservation) -> Result<Device<'a>, Refusal> {
        let access = state.config.accesses.get(&reservation.access);
        let customer = state.config.customers.get(&reservation.customer);
        let endpoints = access.zip(customer).map_or_else(Vec::new, |(access, customer)| {
            customer.endpoints.iter().filter(|e| e.covers(access, reservation.subscriber)).collect()
        });
        let Some(subscriber) = reservation.subscriber else { return Ok(Device { endpoints, session: None }) };
        let refused = |message: &str| Err(Refusal::new(Code::EndpointNotAllowed, message));
        match state.learnt.session((reservation.access, subscriber)) {
            None => refused("the subscriber has no session"),
            Some(session) if session.is_away => refused(quote::AWAY),
            Some(session) => Ok(Device { endpoints, session: Some(session) }),
        }
    }

    fn check(&self, device: IpAddr) -> Result<(), &'static str> {
        let is_listed = self.endpoints.iter().any(|endpoint| {
            // A session says what a device's address is; a list beside it narrows.
            let is_open = self.session.is_some() && endpoint.addresses.is_empty();
            is_open || endpoint.addresses.iter().any(|prefix| prefix.contains(device))
        });
        if !is_listed {
            return Err("the device address is not an endpoint of this customer");
        }
        if self.session.is_some_and(|session| !session.address.contains(device)) {
            return Err("the device address is not the one of the subscriber's session");
        }
        Ok(())
    }
}
