//! Leases that were asked for with a request key, so that a retry gets the same lease, on whichever server.

use std::sync::Arc;

use super::execute::Batch;
use super::fresh::{Fresh, leasing_at_once};
use super::lane::{Job, Kind};
use super::line::Entry;
use super::pool::Pool;
use super::receiver::Receiver;
use super::state::Shared;
use super::wire::{Code, Malformed, Reader, Writer, status};
use crate::error::Error;
use crate::key::{KeyId, Lease, Leased, Value};
use crate::store::operation::{Reply, RequestKey};
use crate::time::{Clock, Timestamp};

/// How long after its waiting time a request is answered at the latest, in milliseconds.
const SETTLE_MS: u64 = 60_000;
/// How long the entry of a request stays after the end of its lease, in milliseconds.
const AFTER_MS: u64 = 1000;

/// What is known of a request.
enum Known<C: Clock> {
    New,
    /// It is new, and has got this lease.
    Leased(Fresh<C>),
    /// Another lease has this key already: whether it asked for the same, and the lease.
    Got(bool, KeyId, u64),
}

impl<C: Clock> Shared<C> {
    /// Leases a key for an entry that was sent, unless the lease of an earlier request with the same key lasts.
    pub(super) async fn lease_once(
        self: Arc<Self>,
        pool: Arc<Pool>,
        number: u64,
        request: RequestKey,
        wait_ms: u32,
    ) {
        let mut over = 0;
        // It may be cancelled meanwhile.
        let land = || pool.line.land(number).expect("it was sent");
        let refusal = loop {
            match self.begin_request(&pool, number, &request, wait_ms, over).await {
                Ok(Known::Leased(fresh)) => {
                    fresh.deliver(&land().receiver);
                    return;
                }
                Ok(Known::New) => {
                    let entry = Entry { request: Some(request), ..land() };
                    let mut batch = Batch::default();
                    self.look_for(&pool, number, entry, &mut batch);
                    self.flush(batch);
                    return;
                }
                Ok(Known::Got(is_same, id, generation)) => {
                    match self.show_lease(&pool, id, generation).await {
                        Ok(Some(leased)) if is_same => {
                            // It is another client's as well: it is not taken back if this one has gone.
                            let _ = land().receiver.complete(Ok(Reply::Leased(leased)));
                            return;
                        }
                        Ok(Some(_)) => break Error::RequestReused,
                        Ok(None) => over = generation,
                        Err(error) => break error,
                    }
                }
                Err(error) => break error,
            }
        };
        land().receiver.tell(Err(refusal));
    }

    /// Begins a request, unless it has begun. If nobody waits, it throws a dart at the shard that knows of the request, so that one
    /// call does it all. Requests are as likely to be in one shard as in any other, and the dart misses as often as the shard has
    /// fewer free keys than the one that has the most: so each free key is as likely as any other.
    async fn begin_request(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        number: u64,
        request: &RequestKey,
        wait_ms: u32,
        over: u64,
    ) -> Result<Known<C>, Error> {
        let lane = pool.lane_of_digest(&request.digest);
        let parameters = request.parameters.iter().flat_map(|one| one.to_be_bytes());
        let parameters: Vec<u8> = parameters.collect();
        let until = self.seen().plus_ms(u64::from(wait_ms) + SETTLE_MS);
        let operation = Writer::new(Code::BeginRequest)
            .bytes(&request.digest)
            .bytes(&parameters)
            .number::<5>(until.as_ms())
            .number::<7>(over);
        let leasing = leasing_at_once(pool, number, request, AFTER_MS);
        let (leasing, lease_ms) = leasing.unzip();
        let operation = operation.bytes(leasing.as_deref().unwrap_or_default());
        let (shared, of_pool) = (Arc::clone(self), Arc::clone(pool));
        let read = move |reader: &mut Reader<'_>, now| {
            Ok(match (reader.byte()?, lease_ms) {
                (status::OK, None) => Ok(Known::New),
                (status::OK, Some(lease_ms)) => {
                    let fresh = Fresh::read(&shared, &of_pool, lease_ms, reader, now)?;
                    of_pool.lanes[lane].read_known(reader)?;
                    Ok(fresh.map_or(Known::New, Known::Leased))
                }
                (status::KNOWN, _) => {
                    Ok(Known::Got(reader.byte()? == 1, reader.id()?, reader.number::<7>()?))
                }
                (status::TAKEN, _) => Err(Error::RequestInProgress),
                (status::STALE, _) => Err(Error::RequestReused),
                _ => return Err(Malformed),
            })
        };
        self.ask_one(pool, lane, operation, Kind::Change, read).await
    }

    /// The lease of a key, if it lasts.
    async fn show_lease(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        id: KeyId,
        generation: u64,
    ) -> Result<Option<Leased>, Error> {
        let operation = Writer::new(Code::ShowLease).id(&id).number::<7>(generation);
        let of_pool = pool.id;
        let read = move |reader: &mut Reader<'_>, _| {
            if reader.byte()? != status::OK {
                return Ok(Ok(None));
            }
            let (since, until) = (reader.time()?, reader.time()?);
            let value = Value::new(reader.text::<2>()?);
            let lease = Lease { pool: of_pool, id, generation, since, until };
            Ok(Ok(Some(Leased { lease, value })))
        };
        self.ask_one(pool, pool.lane_of(&id), operation, Kind::Look, read).await
    }

    /// Notes the lease that a request has got, and then gives it to the client.
    pub(super) fn settle_request(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        request: RequestKey,
        receiver: Receiver,
        leased: Leased,
        to_reply: fn(Leased) -> Reply,
    ) {
        let (shared, of_pool) = (Arc::clone(self), Arc::clone(pool));
        let operation = settle(&request, leased.until, Some((&leased.id, leased.generation)));
        let done = move |_| {
            let unwanted = receiver.complete(Ok(to_reply(leased)));
            if let Some(lease) = unwanted {
                shared.take_back(&of_pool, &lease);
            }
        };
        self.push(pool, pool.lane_of_digest(&request.digest), [settling(operation, done)]);
    }

    /// A request has got nothing: it may be repeated.
    pub(super) fn forget_request(self: &Arc<Self>, pool: &Arc<Pool>, request: RequestKey) {
        let operation = settle(&request, Timestamp::default(), None);
        self.push(pool, pool.lane_of_digest(&request.digest), [settling(operation, drop)]);
    }

    /// The lease of a request has another end.
    pub(super) async fn move_request(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        digest: [u8; 16],
        lease: &Lease,
    ) {
        let request = RequestKey { digest, parameters: [0; 5] };
        let operation = settle(&request, lease.until, Some((&lease.id, lease.generation)));
        let read = |reader: &mut Reader<'_>, _| reader.outcome();
        let _ =
            self.ask_one(pool, pool.lane_of_digest(&digest), operation, Kind::Change, read).await;
    }

    /// Takes back a lease that no client has received, unless a retry has got it, too.
    pub(super) fn take_back(self: &Arc<Self>, pool: &Arc<Pool>, lease: &Lease) {
        let (shared, of_pool, lease) = (Arc::clone(self), Arc::clone(pool), *lease);
        let done = move |given: Result<Option<[u8; 16]>, Error>| {
            if let Ok(Some(digest)) = given {
                let runtime = shared.runtime.clone();
                runtime
                    .spawn(async move { shared.take_back_request(&of_pool, digest, &lease).await });
            } else {
                of_pool.line.note_news();
            }
        };
        self.push(pool, pool.lane_of(&lease.id), [giving_back(&lease, false, done)]);
    }

    async fn take_back_request(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        digest: [u8; 16],
        lease: &Lease,
    ) {
        let operation =
            Writer::new(Code::GiveUpRequest).bytes(&digest).number::<7>(lease.generation);
        let read = |reader: &mut Reader<'_>, _| Ok(Ok(reader.byte()? == status::OK));
        let lane = pool.lane_of_digest(&digest);
        if self.ask_one(pool, lane, operation, Kind::Change, read).await == Ok(true) {
            let of_pool = Arc::clone(pool);
            let done = move |_| of_pool.line.note_news();
            self.push(pool, pool.lane_of(&lease.id), [giving_back(lease, true, done)]);
        }
    }
}

fn settle(request: &RequestKey, until: Timestamp, lease: Option<(&KeyId, u64)>) -> Writer {
    let none = (KeyId::from_bytes([0; 16]), 0);
    let (id, generation) = lease.map_or(none, |(id, generation)| (*id, generation));
    Writer::new(Code::SettleRequest)
        .bytes(&request.digest)
        .number::<5>(until.plus_ms(AFTER_MS).as_ms())
        .id(&id)
        .number::<7>(generation)
}

fn settling(operation: Writer, done: impl FnOnce(Result<(), Error>) + Send + 'static) -> Job {
    Job::new(operation, Kind::Change, |reader, _| reader.outcome(), done)
}

/// Gives a lease back. The answer may be that a request must be asked first.
fn giving_back(
    lease: &Lease,
    was_asked: bool,
    done: impl FnOnce(Result<Option<[u8; 16]>, Error>) + Send + 'static,
) -> Job {
    let operation = Writer::new(Code::GiveBack)
        .id(&lease.id)
        .number::<7>(lease.generation)
        .number::<1>(was_asked.into());
    let read = |reader: &mut Reader<'_>, _| {
        Ok(Ok(match reader.byte()? {
            status::KNOWN => Some(reader.bytes(16)?.try_into().map_err(|_| Malformed)?),
            _ => None,
        }))
    };
    Job::new(operation, Kind::Change, read, done)
}
