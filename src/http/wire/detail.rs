//! What a refusal says to people.

use std::borrow::Cow;

use super::problem::Problem;
use crate::key::Label;
use crate::pool::PoolName;

impl Problem {
    /// What is wrong with this request, and what to do next.
    #[expect(clippy::too_many_lines, reason = "it is a table")]
    pub(super) fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::MethodNotAllowed { allowed } => {
                format!("Use a method that this path allows: {allowed}.").into()
            }
            Self::InvalidParameter { detail }
            | Self::InvalidSettings { detail }
            | Self::InvalidKey { detail } => {
                detail.clone().into()
            }
            Self::MalformedBody { detail } => {
                format!("The body cannot be read: {detail}. Send a JSON object.").into()
            }
            Self::ForeignHost { host } => format!(
                "This server asks for no tokens, so requests must name it by an IP address, as \
                 localhost, or by a name that the operator has given: --allowed-host {host}."
            ).into(),
            Self::InvalidBody { expected } => (*expected).into(),
            Self::BodyTooLarge { max } => {
                format!("Send at most {max} bytes, or divide the request into smaller ones.").into()
            }
            Self::NoSuchPool => {
                "Use a pool that GET /pools lists, or create this one with PUT /pools/ and its name."
                    .into()
            }
            Self::MalformedPoolName => format!("The name of a pool must be {}.", PoolName::FORM).into(),
            Self::PoolNotEmpty => {
                "Nothing was done. Delete the keys of the pool first, or delete it with its keys: ?keys=delete."
                    .into()
            }
            Self::DefaultPool => {
                "Nothing was done. The pool default always exists; delete its keys instead.".into()
            }
            Self::TooManyPools => {
                "No pool was created, because there are as many as --max-pools allows. Delete one that is \
                 not needed, or use another server."
                    .into()
            }
            Self::NoSuchPath => "Use a path of the API, such as /keys.".into(),
            Self::MalformedIfMatch => {
                "Send the ETag of the lease with its quotes, such as If-Match: \"7\", or a list of \
                 ETags, or *."
                    .into()
            }
            Self::Stopping => {
                "Nothing was done. Send the request to another server, or try again later."
                    .into()
            }
            Self::Busy => {
                "Nothing was done, because other large requests take all the memory for them. Try \
                 again after the time in Retry-After, or send a smaller request."
                    .into()
            }
            Self::RequestInProgress => {
                "Nothing was done, because an earlier request with this Idempotency-Key still waits. Try again \
                 after the time in Retry-After."
                    .into()
            }
            Self::RequestReused => {
                "Nothing was done, because a request with this Idempotency-Key has asked for something else, and \
                 its lease lasts. Use a new Idempotency-Key for each lease, and repeat it only with the same \
                 parameters."
                    .into()
            }
            Self::MalformedRequestKey => {
                "Send one Idempotency-Key of 1 to 255 visible ASCII characters or spaces, such as a random UUID."
                    .into()
            }
            Self::TooManyWaitersOfClient => {
                "No key is free, and as many requests from this address wait as may. Try again after the time in \
                 Retry-After."
                    .into()
            }
            Self::TooManyWaiters => {
                "No key is free, and the queue of waiting requests is full. Try \
                 again after the time in Retry-After."
                    .into()
            }
            Self::TooManyViewers => {
                "Close a dashboard, or try again after the time in Retry-After."
                    .into()
            }
            Self::Unauthorized { has_token: false } => {
                "Send a token in one header field, such as Authorization: Bearer TOKEN."
                    .into()
            }
            Self::Unauthorized { has_token: true } => {
                "The server does not know the token that was sent. Send another one, or ask the \
                 operator for one."
                    .into()
            }
            Self::Forbidden { role: "admin" } => "This request needs a token with the role admin.".into(),
            Self::ForbiddenPool { pool: Some(pool) } => format!(
                "The token that was sent is not for the pool {pool}. Send one that is, or ask the operator for \
                 one."
            ).into(),
            Self::ForbiddenPool { pool: None } => {
                "This request is not about a single pool, so it needs a token that is for all pools."
                    .into()
            }
            Self::FromElsewhere => {
                "A browser sent this request for a page of another site. Send it \
                 from a page of this server, or from a program."
                    .into()
            }
            Self::MalformedHost => {
                "Send one Host with the name or the address of the server, such as \
                 Host: localhost:8080."
                    .into()
            }
            Self::TransferCoding { .. } => {
                "Send the body with Content-Length, or with Transfer-Encoding: chunked and no \
                 other coding."
                    .into()
            }
            Self::NotLeased => {
                "Nothing was done, because there is no lease to renew. Lease a key with GET /keys."
                    .into()
            }
            Self::Stale => {
                "Nothing was done, because the key no longer has the lease that If-Match \
                 names. Lease a key with GET /keys."
                    .into()
            }
            Self::ValuesFull => {
                "No key was added, because all values together may have no more bytes than --max-value-bytes. \
                 Delete keys that are not needed, or try again after the time in Retry-After."
                    .into()
            }
            Self::TooManyLabels => format!(
                "No key was added, because the keys of a pool may have {} different labels, a name and a value \
                 each. Use fewer, or another pool.",
                Label::DIFFERENT_MAX
            ).into(),
            Self::TooManyHeld => {
                "No key was leased, because the clients with this token have as many as its max-held allows. Release \
                 one first."
                    .into()
            }
            Self::BodyTimeout => "Send the whole body right after the head.".into(),
            Self::LargerThanPool { max } => {
                format!("No key was created, because the pool may have {max} keys at most. Create fewer.").into()
            }
            Self::PoolFull { .. } => {
                "No key was created, because the pool has no room for that many. \
                 Create fewer, or try again after the time in Retry-After."
                    .into()
            }
            Self::Starting => {
                "Nothing was done, because the server is starting: it reads its data directory, or tries to reach its \
                 store. Try again after the time in Retry-After."
                    .into()
            }
            Self::StorageFull => {
                "Nothing was changed, because the disk, or the memory of the store, has no room to note it. Requests \
                 that only look are still answered. Try again once its operator has made room."
                    .into()
            }
            Self::Unavailable { .. } => {
                "The request may or may not have been carried out. Look at the \
                 key, or try again after the time in Retry-After."
                    .into()
            }
            Self::Forbidden { role } => {
                format!("This request needs a token with the role {role} or admin.").into()
            }
        }
    }
}
