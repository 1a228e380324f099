//! The `OpenAPI` document.
//!
//! The handlers describe their parameters and answers. What several of them share is added here. The
//! examples of refusals are the server's own answers.

use std::collections::BTreeMap;
use std::iter;

use serde_json::json;
use utoipa::OpenApi;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder};
use utoipa::openapi::response::Response as Described;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, Header, Ref, RefOr, Required, ResponseBuilder, Schema, SecurityRequirement,
};

use super::pattern;
use crate::http::api::{Limits, batches, keys, leases, pools, query, stats};
use crate::http::auth::Role;
use crate::http::route::Route;
use crate::http::wire::{BATCH_BYTES_MAX, BODY_BYTES_MAX, Details, PROBLEM_JSON, Problem};

/// The name of the security scheme in the document.
const TOKEN: &str = "token";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Token Orchestrator",
        description = "Leases random free keys from a pool. A key that is not kept alive expires.\n\n\
            Unknown, expired, deleted and malformed ids get the same answer: 404 `{}`. All other refusals are \
            `application/problem+json` (RFC 9457), and their `type` stays the same from version to version. A method \
            that a path does not allow gets 405 with `Allow`. No answer may be cached.",
        contact(),
    ),
    paths(
        pools::create,
        leases::lease,
        leases::lease_once,
        keys::show,
        keys::release,
        keys::renew,
        keys::delete,
        keys::keep_alive,
        batches::release,
        batches::keep_alive,
        stats::show,
    ),
    components(schemas(Details)),
    tags(
        (name = "pool", description = "The pool as a whole"),
        (name = "key", description = "One key"),
        (name = "many", description = "Many keys in one request"),
    ),
)]
struct Document;

/// The document, with the limits of this server.
pub(super) fn document(limits: Limits) -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "Needed if the operator asks for tokens. Each token has one of the roles client, admin and metrics",
    ));
    let components = document.components.as_mut().expect("there are schemas");
    components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer.build()));
    for (path, item) in &mut document.paths.paths {
        let route = |method| {
            let is = |route: &&Route| route.method() == method && route.template() == path;
            *Route::ALL.iter().find(is).expect("each operation is a route")
        };
        for (method, operation) in [
            ("GET", &mut item.get),
            ("PUT", &mut item.put),
            ("POST", &mut item.post),
            ("DELETE", &mut item.delete),
        ] {
            if let Some(operation) = operation {
                complete(operation, route(method), limits);
            }
        }
    }
    document
}

fn complete(operation: &mut Operation, route: Route, limits: Limits) {
    // Both are described as enough, because the document does not depend on whether tokens are needed.
    let no_scopes = iter::empty::<String>;
    operation.security =
        Some(vec![SecurityRequirement::default(), SecurityRequirement::new(TOKEN, no_scopes())]);
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            describe_parameter(parameter, limits);
        }
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.required = Some(if route == Route::Create { Required::False } else { Required::True });
    }
    let responses = &mut operation.responses.responses;
    for response in responses.values_mut() {
        if let RefOr::T(response) = response {
            let headers = response.headers.iter_mut();
            headers.for_each(|(name, header)| *header = describe_header(name).into());
        }
    }
    let refusals = refusals(route, limits);
    let mut by_status = BTreeMap::<u16, Vec<Details>>::new();
    for refusal in refusals.iter().map(Problem::details) {
        by_status.entry(refusal.status).or_default().push(refusal);
    }
    for (status, refusals) in by_status {
        responses.insert(status.to_string(), describe_refusals(status, &refusals).into());
    }
}

/// Adds the limits of durations, which the operator sets.
fn describe_parameter(parameter: &mut Parameter, limits: Limits) {
    let max_ms = match parameter.name.as_str() {
        "lease" => limits.lease_ms_max,
        "wait" => limits.wait_ms_max,
        "cooldown" => limits.cooldown_ms_max,
        _ => return,
    };
    let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else {
        unreachable!("durations are strings")
    };
    schema.pattern = Some(pattern::duration(max_ms));
    let example = if max_ms < 30_000 { format!("{max_ms}ms") } else { "30s".to_owned() };
    let described = ParameterBuilder::from(std::mem::take(parameter));
    *parameter = described.example(Some(example.into())).build();
}

fn describe_header(name: &str) -> Header {
    let time = json!({"type": "string", "format": "date-time"});
    let at = "2026-11-22T18:20:31.246Z";
    let (description, schema, example) = match name {
        "ETag" => (
            "The generation of the key, which names its lease. It never repeats for the same key",
            json!({"type": "string", "pattern": pattern::ETAG}),
            json!("\"1\""),
        ),
        "Lease-Expires-At" => ("When the lease or the cool-down ends", time, json!(at)),
        "Key-Expires-At" => ("When the key expires unless it is kept alive", time, json!(at)),
        "Location" => (
            "The path of the key, if the request creates one without `count`",
            json!({"type": "string", "format": "uri-reference"}),
            json!("/keys/936da01f-9abd-4d9d-80c7-02af85c822a8"),
        ),
        "Retry-After" => (
            "The number of seconds after which a retry may succeed",
            json!({"type": "integer", "minimum": 1}),
            json!(28),
        ),
        "WWW-Authenticate" => (
            "How to authenticate",
            json!({"type": "string", "pattern": "^Bearer "}),
            json!("Bearer realm=\"token-orchestrator\""),
        ),
        name => unreachable!("{name} is not described"),
    };
    let schema: Schema = serde_json::from_value(schema).expect("a schema");
    let mut header = Header::new(schema);
    header.description = Some(description.to_owned());
    header.example = Some(example);
    header
}

/// The refusals of an operation, except 404 `{}`.
fn refusals(route: Route, limits: Limits) -> Vec<Problem> {
    let wrong = |name, max_ms| query::duration(name, Some("0s"), max_ms).err();
    let lease = wrong("lease", limits.lease_ms_max);
    let cooldown = wrong("cooldown", limits.cooldown_ms_max);
    let not_json = "expected value at line 1 column 1".to_owned();
    let fenced = [Problem::MalformedIfMatch, Problem::Stale];
    let own: Vec<_> = match route {
        Route::Create => {
            let larger = Problem::LargerThanPool { max: 50_000 };
            let full = Problem::PoolFull { retry_after_ms: 1 };
            vec![Problem::InvalidBody { expected: pools::EXPECTED }, larger, full]
        }
        Route::Lease | Route::LeaseOnce => {
            let waiting =
                [Problem::TooManyWaiters, Problem::TooManyWaitersOfClient, Problem::Stopping];
            let of_key = [
                Problem::InvalidBody { expected: leases::EXPECTED },
                Problem::MalformedRequestKey,
                Problem::RequestInProgress,
                Problem::RequestReused,
            ];
            let of_key = of_key.into_iter().filter(|_| route.is_lease_once());
            lease.into_iter().chain(waiting).chain(of_key).collect()
        }
        Route::Release => cooldown.into_iter().chain(fenced).collect(),
        Route::Renew => lease.into_iter().chain(fenced).chain([Problem::NotLeased]).collect(),
        Route::Delete => fenced.into(),
        Route::ReleaseMany | Route::KeepAliveMany => {
            vec![Problem::InvalidBody { expected: batches::EXPECTED }]
        }
        _ => vec![],
    };
    // The body of every request is read, also of those that need none.
    let max = match route {
        Route::ReleaseMany | Route::KeepAliveMany => BATCH_BYTES_MAX,
        _ => BODY_BYTES_MAX,
    };
    let role = Role::least_for(route.need()).name();
    let all = [
        Problem::Unauthorized { has_token: false },
        Problem::Forbidden { role },
        Problem::ForbiddenPool { pool: route.pool().map(str::to_owned) },
        Problem::FromElsewhere,
        Problem::MalformedHost,
        Problem::ForeignHost { host: "keys.example.com".to_owned() },
        Problem::TransferCoding { is_known: true },
        Problem::TransferCoding { is_known: false },
        Problem::MalformedBody { detail: not_json },
        Problem::BodyTooLarge { max },
        Problem::BodyTimeout,
        Problem::Busy,
    ];
    own.into_iter().chain(all).collect()
}

/// All refusals of one status, each with an example.
fn describe_refusals(status: u16, refusals: &[Details]) -> Described {
    let titles: Vec<_> = refusals.iter().map(|details| details.title).collect();
    let examples = refusals.iter().map(|details| {
        let name = details.r#type.trim_start_matches("/problems/").to_owned();
        let value = serde_json::to_value(details).expect("strings and a number");
        (name, ExampleBuilder::new().value(Some(value)).build())
    });
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Details")))
        .examples_from_iter(examples);
    let response = ResponseBuilder::new()
        .description(titles.join("; "))
        .content(PROBLEM_JSON, content.build());
    match status {
        401 => response.header("WWW-Authenticate", describe_header("WWW-Authenticate")).build(),
        409 if refusals.iter().any(|details| details.r#type.ends_with("in-progress")) => {
            response.header("Retry-After", describe_header("Retry-After")).build()
        }
        429 | 503 => response.header("Retry-After", describe_header("Retry-After")).build(),
        _ => response.build(),
    }
}
