//! The API's description, made from the handlers and wire types. The committed copy is
//! `proto/openapi/qos-transfers.json`; a test fails when it drifts.

use super::error::{EdgeCode, ErrorBody};
use super::{
    accesses, charges, events, evidence, flows, ops, peers, quotes, reservations, tiers, top_ups, usage,
    wallet,
};
use std::collections::BTreeMap;
use tollway_core::refusal::Code;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, ObjectBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Type};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tollway qos-transfers",
        description = "Assured bandwidth: quote, hold, confirm, use, pay for what was kept. Integers only: \
                       money in millionths of the currency's unit, rates in IP bits per second, sizes in \
                       bytes. `docs/api.md` is the guide, `docs/errors.md` lists every error.",
        version = "0.1.0",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        quotes::create,
        reservations::take,
        reservations::list,
        reservations::show,
        reservations::confirm,
        reservations::cancel,
        flows::replace,
        usage::show,
        evidence::show,
        charges::show,
        events::show,
        accesses::list,
        tiers::list,
        wallet::show,
        top_ups::create,
        top_ups::wallet,
        top_ups::list,
        peers::list,
        ops::healthz,
        ops::readyz,
        ops::metrics,
        ops::openapi
    ),
    components(schemas(ErrorBody)),
    security(("api_key" = [])),
    modifiers(&Common)
)]
struct Document;

/// What all operations have in common: the key, the id, the errors.
struct Common;

impl Modify for Common {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key: a random token, stored only as its SHA-256"))
            .build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(bearer));
        for (path, item) in &mut openapi.paths.paths {
            if !path.contains("/v0.1/") {
                continue;
            }
            for (operation, is_write) in
                [(&mut item.get, false), (&mut item.post, true), (&mut item.put, true)]
            {
                if let Some(operation) = operation {
                    complete(operation, is_write);
                }
            }
        }
    }
}

fn complete(operation: &mut Operation, is_write: bool) {
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(header_parameter(
        "x-correlator",
        Required::False,
        "Names this request in logs and errors; made when it is not given, echoed in the answer",
    ));
    if is_write {
        parameters.push(header_parameter(
            "Idempotency-Key",
            Required::True,
            "1 to 128 visible ASCII characters: the same key gets the same answer for 24 h",
        ));
    }
    for (status, codes) in codes_by_status() {
        let for_writes = matches!(status, 409 | 413 | 415 | 422 | 429);
        if for_writes && !is_write {
            continue;
        }
        let response = error_response(status, &codes);
        operation.responses.responses.entry(status.to_string()).or_insert(RefOr::T(response));
    }
}

fn header_parameter(name: &str, required: Required, text: &str) -> RefOr<Parameter> {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(required)
        .description(Some(text))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build();
    RefOr::T(parameter)
}

fn codes_by_status() -> BTreeMap<u16, Vec<&'static str>> {
    let mut found: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    for code in EdgeCode::ALL {
        if !matches!(code, EdgeCode::MethodNotAllowed) {
            found.entry(code.status()).or_default().push(code.as_str());
        }
    }
    for code in Code::ALL {
        let names = found.entry(code.status()).or_default();
        // The configuration is not changed over this API.
        if !matches!(code, Code::ConfigurationRefused) && !names.contains(&code.as_str()) {
            names.push(code.as_str());
        }
    }
    found
}

fn error_response(status: u16, codes: &[&str]) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    let mut response =
        ResponseBuilder::new().description(codes.join(", ")).content("application/json", content);
    if status == 503 {
        let seconds = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::Integer)))
            .description(Some("Seconds"))
            .build();
        response = response.header("Retry-After", seconds);
    }
    response.build()
}

/// The description as JSON text, byte for byte the committed file.
///
/// # Panics
/// Never: it holds nothing that JSON cannot say.
pub fn document() -> String {
    let mut text = Document::openapi().to_pretty_json().expect("a description is JSON");
    text.push('\n');
    text
}
