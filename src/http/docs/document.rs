//! The `OpenAPI` document.
//!
//! The handlers describe their parameters and answers. What several of them share is added here. The
//! examples of refusals are the server's own answers.

use std::collections::BTreeMap;
use std::iter;

use serde_json::json;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, PathItem};
use utoipa::openapi::response::Response as Described;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Header, Ref, RefOr, Required, ResponseBuilder, Schema,
    SecurityRequirement,
};
use utoipa::{IntoParams, OpenApi};

use super::pattern;
use crate::http::api::pools::PoolPath;
use crate::http::api::settings::Given;
use crate::http::api::{
    Limits, batches, creation, inventory, keys, leases, pools, query, stats, take_back,
};
use crate::http::auth::Role;
use crate::http::route::{Route, in_pool};
use crate::http::wire::{BATCH_BYTES_MAX, BODY_BYTES_MAX, Details, PROBLEM_JSON, Problem};
use crate::pool::Settings;

/// The name of the security scheme in the document.
const TOKEN: &str = "token";
/// The path of a pool.
const POOL_PATH: &str = "/pools/{pool}";

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
        creation::create,
        leases::lease,
        leases::lease_once,
        take_back::take_back,
        keys::show,
        keys::release,
        keys::renew,
        keys::delete,
        keys::keep_alive,
        batches::release,
        batches::keep_alive,
        stats::show,
        pools::list,
        pools::put,
        pools::show,
        pools::delete,
        inventory::list,
    ),
    components(schemas(Details)),
    tags(
        (name = "pool", description = "The pool as a whole"),
        (name = "key", description = "One key"),
        (name = "many", description = "Many keys in one request"),
        (name = "pools", description = "The pools of the server"),
        (name = "named", description = "The same for the keys of a pool that the path names"),
    ),
)]
struct Document;

/// The document, with the limits of this server.
pub(super) fn document(settings: Settings) -> utoipa::openapi::OpenApi {
    let limits = Limits::from(settings);
    let mut document = Document::openapi();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "Needed if the operator asks for tokens. Each token has one of the roles client, admin and metrics",
    ));
    let components = document.components.as_mut().expect("there are schemas");
    describe_settings(components, settings);
    components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer.build()));
    let of_pool = |(path, item): (&String, &PathItem)| {
        let path = format!("{POOL_PATH}{path}");
        in_pool(&path).is_some().then(|| (path.clone(), item_of_pool(item.clone())))
    };
    let of_pool: Vec<_> = document.paths.paths.iter().filter_map(of_pool).collect();
    document.paths.paths.extend(of_pool);
    for (path, item) in &mut document.paths.paths {
        let pool = in_pool(path);
        let template = pool.map_or(&**path, |(_, path)| path);
        let route = |method| {
            let is = |route: &&Route| route.method() == method && route.template() == template;
            *Route::ALL.iter().find(is).expect("each operation is a route")
        };
        for (method, operation) in operations(item) {
            let names_pool = template.starts_with(POOL_PATH) && method != "PUT";
            let names_pool = pool.is_some() || names_pool;
            complete(operation, route(method), limits, names_pool);
        }
    }
    document
}

/// The operations of a path, by their methods.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("GET", &mut item.get),
        ("PUT", &mut item.put),
        ("POST", &mut item.post),
        ("DELETE", &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// A path of the default pool, as it is for a pool that the path names.
fn item_of_pool(mut item: PathItem) -> PathItem {
    for (_, operation) in operations(&mut item) {
        let name = PoolPath::into_params(|| None);
        let parameters = operation.parameters.get_or_insert_default();
        parameters.splice(0..0, name.into_iter().map(RefOr::T));
        operation.operation_id = operation.operation_id.take().map(|id| id + "InPool");
        operation.tags = Some(vec!["named".to_owned()]);
    }
    item
}

/// `names_pool` if the path has the name of a pool that must exist.
fn complete(operation: &mut Operation, route: Route, limits: Limits, names_pool: bool) {
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
        let is_optional = matches!(route, Route::Create | Route::PutPool);
        body.required = Some(if is_optional { Required::False } else { Required::True });
    }
    let responses = &mut operation.responses.responses;
    for response in responses.values_mut() {
        if let RefOr::T(response) = response {
            let headers = response.headers.iter_mut();
            headers.for_each(|(name, header)| *header = describe_header(name).into());
        }
    }
    let no_pool = names_pool.then_some(Problem::NoSuchPool);
    let refusals: Vec<_> = refusals(route, limits).into_iter().chain(no_pool).collect();
    let mut by_status = BTreeMap::<u16, Vec<Details>>::new();
    for refusal in refusals.iter().map(Problem::details) {
        by_status.entry(refusal.status).or_default().push(refusal);
    }
    for (status, refusals) in by_status {
        let mut described = describe_refusals(status, &refusals);
        // 404 is also that there is no such key, or no free one.
        if let Some(RefOr::T(known)) = responses.remove(&status.to_string()) {
            described.description = format!("{}; {}", known.description, described.description);
            described.content.extend(known.content);
            described.headers.extend(known.headers);
        }
        responses.insert(status.to_string(), described.into());
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
    schema.pattern = Some(pattern::duration(u64::from(max_ms)));
    let example = if max_ms < 30_000 { format!("{max_ms}ms") } else { "30s".to_owned() };
    let described = ParameterBuilder::from(std::mem::take(parameter));
    *parameter = described.example(Some(example.into())).build();
}

/// Adds the limits of the settings of a pool.
fn describe_settings(components: &mut Components, settings: Settings) {
    let Some(RefOr::T(Schema::Object(given))) = components.schemas.get_mut("Given") else {
        unreachable!("the settings are an object")
    };
    for (name, schema) in &mut given.properties {
        let RefOr::T(Schema::Object(schema)) = schema else { unreachable!("none is a reference") };
        let days = |days: u64| pattern::duration(days * 24 * 60 * 60 * 1000);
        let or =
            |word: &str, pattern: String| format!("^({word}|{})$", &pattern[2..pattern.len() - 2]);
        match name.as_str() {
            "maxKeys" => schema.maximum = Some(utoipa::Number::UInt(settings.keys_max)),
            "keyTtl" => schema.pattern = Some(or("never", days(365))),
            "lapseCooldown" => schema.pattern = Some(or("0s", days(30))),
            _ => schema.pattern = Some(days(30)),
        }
    }
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
        "Lease-Holder" => (
            "Who has leased the key, if that was said",
            json!({"type": "string", "pattern": "^[!-~]{1,64}$"}),
            json!("worker-7"),
        ),
        "Keys-Created" => (
            "How many keys of an import are new",
            json!({"type": "integer", "minimum": 0}),
            json!(2),
        ),
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
            let detail =
                "Nothing was imported, because keys[2] is invalid: it may have 8 labels at most.";
            vec![
                Problem::InvalidBody { expected: creation::EXPECTED },
                Problem::InvalidKey { detail: detail.to_owned() },
                larger,
                full,
                Problem::ValuesFull,
                Problem::TooManyLabels,
            ]
        }
        Route::Lease | Route::LeaseOnce => {
            let waiting = [
                Problem::TooManyHeld,
                Problem::TooManyWaiters,
                Problem::TooManyWaitersOfClient,
                Problem::Stopping,
            ];
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
        Route::PutPool => {
            let detail =
                "maxLease must not be shorter than leaseTtl: set it to 2m, or more.".to_owned();
            vec![
                Problem::InvalidBody { expected: Given::EXPECTED },
                Problem::InvalidSettings { detail },
                Problem::MalformedPoolName,
                Problem::TooManyPools,
            ]
        }
        Route::DeletePool => {
            let detail =
                r#"keys must be delete, to delete a pool with its keys, not "x"."#.to_owned();
            vec![Problem::InvalidParameter { detail }, Problem::PoolNotEmpty, Problem::DefaultPool]
        }
        Route::TakeBack => {
            let detail = "Say whose leases are to end, such as ?holder=worker-7.".to_owned();
            vec![Problem::InvalidParameter { detail }]
        }
        Route::ListPools | Route::ListKeys => {
            let detail =
                r#"limit must be a number from 1 to 1000, such as 100, not "0"."#.to_owned();
            vec![Problem::InvalidParameter { detail }]
        }
        Route::ReleaseMany | Route::KeepAliveMany => {
            vec![Problem::InvalidBody { expected: batches::EXPECTED }]
        }
        _ => vec![],
    };
    // The body of every request is read, also of those that need none.
    let max = if route.has_batch() { BATCH_BYTES_MAX } else { BODY_BYTES_MAX };
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
        Problem::Starting,
    ];
    // Lists of keys are audited, and change nothing.
    let changes = route.is_audited() && route != Route::ListKeys;
    own.into_iter().chain(all).chain(changes.then_some(Problem::StorageFull)).collect()
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
