//! Importing keys with values.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;
use ring::digest::{SHA256, digest};

use super::creation::ttl_of;
use super::lane::Kind;
use super::library::Function;
use super::limits::Limited;
use super::pool::Pool;
use super::state::Shared;
use super::wire::{Code, Malformed, Reader, Writer, status};
use crate::error::Error;
use crate::key::{KeyId, Label};
use crate::store::import::{Imported, OwnKey};
use crate::time::{Clock, Timestamp};

/// The most values of one operation.
const EACH: usize = 32;

/// By what a value is found.
type Digest = [u8; 16];

/// A value that is to be imported.
struct New<'o> {
    digest: Digest,
    key: &'o OwnKey,
}

fn digest_of(key: &OwnKey) -> Digest {
    let whole = digest(&SHA256, key.value.reveal().as_bytes());
    *whole.as_ref().first_chunk().expect("a digest is longer")
}

impl<C: Clock> Shared<C> {
    /// Imports keys. There is room for all of them before the first one is added.
    pub(super) async fn import_all(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        keys: &[OwnKey],
    ) -> Result<Imported, Error> {
        let digests: Vec<Digest> = keys.iter().map(digest_of).collect();
        let mut seen = HashSet::new();
        let firsts = digests.iter().zip(keys).filter(|(digest, _)| seen.insert(**digest));
        let firsts: Vec<New<'_>> =
            firsts.map(|(digest, key)| New { digest: *digest, key }).collect();
        let mut known = self.find_values(pool, &firsts).await?;
        let new: Vec<New<'_>> =
            firsts.into_iter().filter(|new| !known.contains_key(&new.digest)).collect();
        self.reserve_labels(pool, &new).await?;
        let bytes: usize = new.iter().map(|new| new.key.value.reveal().len()).sum();
        self.reserve_value_bytes(bytes as u64).await?;
        if let Err(error) = self.reserve_keys(pool, new.len()).await {
            self.settle(Limited::ValueBytes, 0, bytes as u64).await;
            return Err(error);
        }
        let mut imported =
            Imported { ids: Vec::new(), created: 0, life_ends: self.life_ends(pool) };
        let mut outcome = Ok(());
        let mut left: Vec<&New<'_>> = new.iter().collect();
        while outcome.is_ok() && !left.is_empty() {
            outcome = self.import_new(pool, &left, &mut known, &mut imported).await;
            left.retain(|new| !known.contains_key(&new.digest));
        }
        let (used, keys) = (imported.created, Limited::Keys(Arc::clone(pool)));
        self.settle(keys, used as u64, (new.len() - used) as u64).await;
        self.settle(Limited::ValueBytes, bytes as u64, 0).await;
        pool.line.note_news();
        outcome?;
        imported.ids = digests.iter().map(|digest| known[digest]).collect();
        Ok(imported)
    }

    /// When a life would end that begins now.
    fn life_ends(&self, pool: &Pool) -> Timestamp {
        pool.settings().key_ttl_ms.map_or(Timestamp::NEVER, |ms| self.seen().plus_ms(ms))
    }

    /// The keys that have some of the values.
    async fn find_values(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        values: &[New<'_>],
    ) -> Result<HashMap<Digest, KeyId>, Error> {
        let mut by_lane = BTreeMap::<usize, Vec<Digest>>::new();
        for new in values {
            by_lane.entry(pool.lane_of_digest(&new.digest)).or_default().push(new.digest);
        }
        let asked = by_lane.iter().map(|(lane, digests)| {
            let mut operation = Writer::new(Code::FindValues);
            for digest in digests {
                operation = operation.bytes(digest);
            }
            let digests = digests.clone();
            let read = move |reader: &mut Reader<'_>, _| {
                let mut found = Vec::new();
                for digest in &digests {
                    if reader.byte()? == status::KNOWN {
                        found.push((*digest, reader.id()?));
                    }
                }
                Ok(Ok(found))
            };
            self.ask_one(pool, *lane, operation, Kind::Look, read)
        });
        let mut found = HashMap::new();
        for answer in join_all(asked).await {
            found.extend(answer?);
        }
        Ok(found)
    }

    /// Adds keys. What another import has added meanwhile is known then. One whose new id is taken, which is all but impossible, is
    /// left out.
    async fn import_new(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        new: &[&New<'_>],
        known: &mut HashMap<Digest, KeyId>,
        imported: &mut Imported,
    ) -> Result<(), Error> {
        let mut by_lane = BTreeMap::<usize, Vec<&New<'_>>>::new();
        for new in new.iter().copied() {
            by_lane.entry(pool.lane_of_digest(&new.digest)).or_default().push(new);
        }
        let parts = by_lane.iter().flat_map(|(lane, new)| new.chunks(EACH).map(|new| (*lane, new)));
        let asked = parts.map(|(lane, new)| {
            let mut operation = Writer::new(Code::Import).number::<6>(ttl_of(pool));
            let mut ids = Vec::new();
            for New { digest, key } in new {
                let id = pool.random_id(lane);
                let mut labels = Writer::bare();
                let mut seen = HashSet::new();
                for label in key.labels.iter().filter(|label| seen.insert(*label)) {
                    labels = labels.counted::<2>(label.as_str().as_bytes());
                }
                operation = operation
                    .id(&id)
                    .bytes(digest)
                    .counted::<2>(labels.as_bytes())
                    .counted::<2>(key.value.reveal().as_bytes());
                ids.push((*digest, id));
            }
            let read = move |reader: &mut Reader<'_>, _| {
                if reader.byte()? != status::OK {
                    return Err(Malformed);
                }
                let (life_ends, mut added) = (reader.time()?, Vec::new());
                for (digest, id) in &ids {
                    match reader.byte()? {
                        status::OK => added.push((*digest, *id, true)),
                        status::KNOWN => added.push((*digest, reader.id()?, false)),
                        status::TAKEN => {}
                        _ => return Err(Malformed),
                    }
                }
                Ok(Ok((life_ends, added)))
            };
            self.ask_one(pool, lane, operation, Kind::Grow, read)
        });
        let mut outcome = Ok(());
        for answer in join_all(asked).await {
            match answer {
                Ok((life_ends, added)) => {
                    if imported.created == 0 || life_ends < imported.life_ends {
                        imported.life_ends = life_ends;
                    }
                    for (digest, id, is_new) in added {
                        imported.created += usize::from(is_new);
                        known.insert(digest, id);
                    }
                }
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Asks for room for the values.
    async fn reserve_value_bytes(self: &Arc<Self>, bytes: u64) -> Result<(), Error> {
        let has_room = self.reserve(&Limited::ValueBytes, bytes).await?;
        if has_room { Ok(()) } else { Err(Error::ValuesFull) }
    }

    /// Asks for room for the labels that a pool does not have yet.
    async fn reserve_labels(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        new: &[New<'_>],
    ) -> Result<(), Error> {
        let labels: HashSet<&Label> = new.iter().flat_map(|new| &new.key.labels).collect();
        if labels.is_empty() {
            return Ok(());
        }
        if labels.len() > Label::DIFFERENT_MAX {
            return Err(Error::TooManyLabels);
        }
        let labels: Vec<&str> = labels.into_iter().map(Label::as_str).collect();
        if self.ask_labels(pool, false, &labels).await? {
            return Ok(());
        }
        // Some may have gone with their keys.
        let all = self.labels_of(pool).await?;
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.ask_labels(pool, true, &all).await?;
        if self.ask_labels(pool, false, &labels).await? {
            Ok(())
        } else {
            Err(Error::TooManyLabels)
        }
    }

    async fn ask_labels(&self, pool: &Pool, is_all: bool, labels: &[&str]) -> Result<bool, Error> {
        let most = Label::DIFFERENT_MAX.to_string();
        let head = [most.as_str(), if is_all { "1" } else { "0" }];
        let arguments: Vec<&str> = head.into_iter().chain(labels.iter().copied()).collect();
        let key = &pool.labels_key;
        Ok(self.link.ask(Function::Labels, key, &arguments).await? == [1])
    }

    /// The labels that keys of the pool have.
    async fn labels_of(self: &Arc<Self>, pool: &Arc<Pool>) -> Result<HashSet<String>, Error> {
        let read = |reader: &mut Reader<'_>, _| {
            let _ = reader.byte()?;
            let labels = (0..reader.size::<4>()?).map(|_| reader.text::<2>().map(str::to_owned));
            Ok(Ok(labels.collect::<Result<Vec<_>, _>>()?))
        };
        let mut all = HashSet::new();
        for answer in self.ask_all(pool, &Writer::new(Code::Labels), Kind::Look, read).await {
            all.extend(answer?);
        }
        Ok(all)
    }
}
