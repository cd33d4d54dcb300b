//! `GET /accesses`: what the caller may buy for.

use super::error::{ApiError, Invalid};
use super::extract::{Customer, limit_of};
use super::limits::{READINGS_DEFAULT, READINGS_MAX};
use super::wire::access_in::AccessQuery;
use super::wire::access_out::{AccessView, AccessesView};
use super::{ApiState, json};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use std::collections::BTreeSet;
use tollway_core::config::{AccessDef, line_name, parse_every, parse_line};
use tollway_core::state::Config;
use tollway_model::{AccessId, CustomerId};
use tollway_policy::SubscriberRef;

/// What one endpoint of the configuration gives a customer.
enum Part<'a> {
    Configured(&'a str),
    Line(AccessId, &'a AccessDef, SubscriberRef),
    Every(AccessId, &'a AccessDef),
}

impl Part<'_> {
    /// Where a list goes on behind an access of this part; `None` when it is not of this part.
    fn behind(&self, name: &str) -> Option<Option<SubscriberRef>> {
        match self {
            Part::Configured(own) => (*own == name).then_some(None),
            Part::Line(_, def, subscriber) => (line_name(&def.name, *subscriber) == name).then_some(None),
            Part::Every(_, def) => {
                parse_line(name).filter(|(family, _)| *family == def.name).map(|(_, at)| Some(at))
            }
        }
    }
}

/// List the accesses that you may buy for
#[utoipa::path(
    get,
    path = "/qos-transfers/v0.1/accesses",
    tag = "accesses",
    operation_id = "listAccesses",
    params(AccessQuery),
    responses((status = 200, description = "A page of accesses", body = AccessesView))
)]
pub async fn list(
    State(api): State<ApiState>,
    customer: Customer,
    query: Result<Query<AccessQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| Invalid::field("query", rejection.body_text()))?;
    let limit = limit_of(query.limit, READINGS_DEFAULT, READINGS_MAX)?;
    let config = api.handle().snapshot().config.clone();
    let parts = parts(&config, customer.id);
    let (first, mut behind) = match query.after.as_deref() {
        None => (0, None),
        Some(name) => start(&parts, name)?,
    };
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut accesses = Vec::new();
    for part in parts.iter().skip(first) {
        if accesses.len() > most {
            break;
        }
        let left = u32::try_from(most + 1 - accesses.len()).unwrap_or(u32::MAX);
        read(&api, part, behind.take(), left, &mut accesses).await?;
    }
    let has_more = accesses.len() > most;
    accesses.truncate(most);
    let next = accesses.last().filter(|_| has_more).map(|last: &AccessView| last.name.clone());
    Ok(json(StatusCode::OK, &AccessesView { accesses, next }))
}

/// Every access once: a line that stands in all of its family too is told there.
fn parts(config: &Config, customer: CustomerId) -> Vec<Part<'_>> {
    let Some(def) = config.customers.get(&customer) else { return Vec::new() };
    let names: BTreeSet<&str> = def.endpoints.iter().map(|endpoint| endpoint.access.as_str()).collect();
    let of_family = |name: &str| config.accesses.iter().find(|(_, a)| a.name == name && a.apn().is_some());
    let part = |name: &&str| -> Option<Part<'_>> {
        if let Some(access) = config.accesses.values().find(|access| access.name == *name) {
            return Some(Part::Configured(&access.name));
        }
        if let Some((id, def)) = parse_every(name).and_then(of_family) {
            return Some(Part::Every(*id, def));
        }
        let (family, subscriber) = parse_line(name)?;
        let (id, def) = of_family(family)?;
        let is_in_all = names.contains(format!("{family}/*").as_str());
        (!is_in_all).then_some(Part::Line(*id, def, subscriber))
    };
    names.iter().filter_map(part).collect()
}

fn start(parts: &[Part<'_>], name: &str) -> Result<(usize, Option<SubscriberRef>), Invalid> {
    let found = parts.iter().enumerate().find_map(|(index, part)| Some((index, part.behind(name)?)));
    match found {
        Some((index, Some(subscriber))) => Ok((index, Some(subscriber))),
        Some((index, None)) => Ok((index + 1, None)),
        None => Err(Invalid::field("query after", "it is none of your accesses").fix("use `next` of a page")),
    }
}

async fn read(
    api: &ApiState,
    part: &Part<'_>,
    behind: Option<SubscriberRef>,
    limit: u32,
    out: &mut Vec<AccessView>,
) -> Result<(), ApiError> {
    match part {
        Part::Configured(name) => {
            out.push(AccessView { name: (*name).to_owned(), apn: None, attached: None });
        }
        Part::Line(family, def, subscriber) => {
            let attached = api.reader().line(*family, *subscriber).await?.unwrap_or(false);
            out.push(line(def, *subscriber, attached));
        }
        Part::Every(family, def) => {
            let lines = api.reader().lines(*family, behind, limit).await?;
            out.extend(lines.into_iter().map(|(subscriber, attached)| line(def, subscriber, attached)));
        }
    }
    Ok(())
}

fn line(def: &AccessDef, subscriber: SubscriberRef, attached: bool) -> AccessView {
    AccessView {
        name: line_name(&def.name, subscriber),
        apn: def.apn().map(str::to_owned),
        attached: Some(attached),
    }
}
