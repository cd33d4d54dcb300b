//! Confirming a hold and binding flows.

use crate::decide::{Answer, Decided, Decision, own};
use crate::limits;
use crate::offer;
use crate::presence::Presence;
use crate::record::Record;
use crate::refusal::{Code, Refusal};
use crate::reservation::{Promise, Reservation};
use crate::state::State;
use crate::take;
use tollway_model::{CustomerId, Flow, ReservationId, Timestamp};

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
    let access = state.config.accesses.get(&reservation.access);
    let customer = state.config.customers.get(&reservation.customer);
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
        let allowed = access.zip(customer).is_some_and(|(access, customer)| {
            customer
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.access == access.name)
                .any(|endpoint| endpoint.addresses.iter().any(|prefix| prefix.contains(flow.device)))
        });
        if !allowed {
            let message = format!("flow {index}: the device address is not an endpoint of this customer");
            return Err(Refusal::new(Code::EndpointNotAllowed, message));
        }
        if state.flow_conflict(reservation.id, reservation.access, reservation.window, flow) {
            let message = format!("flow {index} is covered by another reservation in this window");
            return Err(Refusal::new(Code::FlowConflict, message));
        }
    }
    Ok(())
}
