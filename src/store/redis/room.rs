//! Limits that all servers share: how many keys a pool may have, and how many bytes all values.
//!
//! What a limit counts goes without its knowledge: keys die by themselves. So it counts what was created since all was last
//! counted, and what servers have asked for and not yet created. That sum is never too small. Only when it reaches the
//! limit, all is counted again.

use std::mem::take;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Mutex, oneshot};

use super::failure::UNAVAILABLE;
use super::library::Function;
use super::link::Link;
use super::wire::{Malformed, Reader};
use crate::error::Error;

/// A limit.
pub(super) struct Room {
    key: Vec<u8>,
    pub(super) own: Mutex<Own>,
    /// Whether the limit is about to be told what this server has used.
    pub(super) is_telling: AtomicBool,
    queue: parking_lot::Mutex<Queue>,
}

/// Somebody who asks for so much.
pub(super) type Asking = (u64, oneshot::Sender<Result<bool, Error>>);

/// Those who ask while the limit is being asked already.
#[derive(Default)]
struct Queue {
    asking: Vec<Asking>,
    is_served: bool,
}

/// What this server has to do with it.
#[derive(Default)]
pub(super) struct Own {
    /// How much it has ever used.
    pub(super) used: u64,
    /// How much it has asked for and not used or given back.
    pub(super) asked: u64,
}

/// What a limit has answered.
pub(super) struct Answer {
    pub(super) may: bool,
    /// How much all servers together have ever used.
    pub(super) used: u64,
    /// How much the others have asked for and not used.
    pub(super) asked: u64,
}

impl Room {
    pub(super) fn new(key: Vec<u8>) -> Self {
        let (own, is_telling, queue) = Default::default();
        Self { key, own, is_telling, queue }
    }

    /// Joins those who ask. True if the caller has to see to it that they are answered.
    pub(super) fn join(&self, asking: Asking) -> bool {
        let mut queue = self.queue.lock();
        queue.asking.push(asking);
        !std::mem::replace(&mut queue.is_served, true)
    }

    /// All who ask by now. If there is nobody, who joins next has to see to it again.
    pub(super) fn next_asking(&self) -> Vec<Asking> {
        let mut queue = self.queue.lock();
        queue.is_served = !queue.asking.is_empty();
        take(&mut queue.asking)
    }

    /// Asks the limit: see `room` in `lua/common.lua`.
    pub(super) async fn ask(
        &self,
        link: &Link,
        me: &[u8; 8],
        own: [u64; 3],
        most: u64,
        counted: Option<(u64, u64)>,
    ) -> Result<Answer, Error> {
        let numbers = own
            .into_iter()
            .chain([most])
            .chain(counted.into_iter().flat_map(|(all, at)| [all, at]));
        let mut arguments = vec![me.to_vec()];
        arguments.extend(numbers.map(|number| number.to_string().into_bytes()));
        let answer = link.ask(Function::Room, &self.key, &arguments).await?;
        let mut reader = Reader::new(&answer);
        let mut read = || {
            let may = reader.byte()? == 1;
            Ok::<_, Malformed>(Answer {
                may,
                used: reader.number::<6>()?,
                asked: reader.number::<6>()?,
            })
        };
        read().map_err(|_| UNAVAILABLE)
    }
}
