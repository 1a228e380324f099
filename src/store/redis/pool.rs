//! A pool: its shards, and what this server knows of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

use crossbeam_utils::atomic::AtomicCell;
use parking_lot::Mutex;

use super::lane::Lane;
use super::line::Line;
use super::room::Room;
use crate::key::KeyId;
use crate::pool::{PoolId, PoolName, Settings};

/// A pool.
pub(super) struct Pool {
    pub(super) id: PoolId,
    pub(super) name: PoolName,
    settings: AtomicCell<Settings>,
    pub(super) lanes: Box<[Lane]>,
    /// The clients of this server that wait for one of its keys.
    pub(super) line: Line,
    /// How many keys there may be.
    pub(super) room: Room,
    /// Where its different labels are.
    pub(super) labels_key: Vec<u8>,
    /// Held while it is changed of which shards this server hears; by which connection that is.
    pub(super) hearing: tokio::sync::Mutex<u64>,
    is_deleted: AtomicBool,
    /// How many of its shards do not answer.
    down: AtomicUsize,
    /// When all shards were last asked how many free keys they have.
    looked_at: Mutex<Option<Instant>>,
}

impl Pool {
    pub(super) fn new(
        prefix: &str,
        id: PoolId,
        name: PoolName,
        settings: Settings,
        shards: usize,
        waiting: Arc<AtomicUsize>,
        waiters_max: usize,
    ) -> Arc<Self> {
        let tag = |shard: usize| format!("{{{prefix}/{}/{shard}}}", id.serial);
        let lanes = (0..shards).map(|shard| Lane::new((tag(shard) + "s").into_bytes()));
        Arc::new(Self {
            id,
            name,
            settings: AtomicCell::new(settings),
            lanes: lanes.collect(),
            line: Line::new(waiting, waiters_max),
            room: Room::new((tag(0) + "r").into_bytes()),
            labels_key: (tag(0) + "k").into_bytes(),
            hearing: tokio::sync::Mutex::default(),
            is_deleted: AtomicBool::new(false),
            down: AtomicUsize::new(0),
            looked_at: Mutex::new(None),
        })
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings.load()
    }

    pub(super) fn set_settings(&self, settings: Settings) {
        self.settings.store(settings);
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.is_deleted.load(SeqCst)
    }

    pub(super) fn note_deleted(&self) {
        self.is_deleted.store(true, SeqCst);
    }

    /// Notes that one more shard does not answer. Whether it is the only one.
    pub(super) fn note_down(&self) -> bool {
        self.down.fetch_add(1, SeqCst) == 0
    }

    /// Notes that a shard answers again. Whether all do.
    pub(super) fn note_up(&self) -> bool {
        self.down.fetch_sub(1, SeqCst) == 1
    }

    /// How many shards do not answer.
    pub(super) fn down(&self) -> usize {
        self.down.load(SeqCst)
    }

    /// The channel on which a shard tells of keys that become free.
    pub(super) fn channel(&self, lane: usize) -> String {
        let state = &self.lanes[lane].key;
        String::from_utf8_lossy(&state[..state.len() - 1]).into_owned()
    }

    /// The shard of a key. O(1).
    pub(super) fn lane_of(&self, id: &KeyId) -> usize {
        let folded = id
            .as_bytes()
            .chunks_exact(2)
            .fold(0, |folded, two| folded ^ u16::from_be_bytes([two[0], two[1]]));
        usize::from(folded) % self.lanes.len()
    }

    /// The shard that something is in that is known by its hash.
    pub(super) fn lane_of_digest(&self, digest: &[u8; 16]) -> usize {
        usize::from(u16::from_be_bytes([digest[0], digest[1]])) % self.lanes.len()
    }

    /// A new id whose shard is this one.
    pub(super) fn random_id(&self, lane: usize) -> KeyId {
        loop {
            let id = KeyId::random(&mut rand::rng());
            if self.lane_of(&id) == lane {
                return id;
            }
        }
    }

    pub(super) fn note_look(&self) {
        *self.looked_at.lock() = Some(Instant::now());
    }

    pub(super) fn looked_at(&self) -> Option<Instant> {
        *self.looked_at.lock()
    }
}
