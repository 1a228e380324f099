//! Hearing of keys that other servers have made free. Shards tell of them as long as somebody waits.

use std::sync::Arc;

use ::redis::{PushInfo, Value};
use futures_util::future::join_all;

use super::link::Pushes;
use super::pool::Pool;
use super::state::Shared;
use crate::time::Clock;

impl<C: Clock> Shared<C> {
    /// Sees to it that this server hears of keys that become free in a pool. A shard that does not answer is asked again
    /// with the next look.
    pub(super) async fn hear_of(self: &Arc<Self>, pool: &Arc<Pool>) {
        let mut by_connection = pool.hearing.lock().await;
        let connections = self.link.connections();
        if std::mem::replace(&mut *by_connection, connections) != connections {
            pool.lanes.iter().for_each(|lane| lane.set_heard(false));
        }
        // One that is silent would take its time.
        let is_deaf = |lane: &usize| {
            let lane = &pool.lanes[*lane];
            !lane.is_heard() && !lane.is_down()
        };
        let deaf = (0..pool.lanes.len()).filter(is_deaf);
        join_all(deaf.map(|lane| async move {
            let is_heard = self.link.listen(&pool.channel(lane), true).await.is_ok();
            pool.lanes[lane].set_heard(is_heard);
        }))
        .await;
    }

    /// Hears no more of a pool for whose keys nobody waits.
    pub(super) async fn hear_no_more(self: &Arc<Self>, pool: &Arc<Pool>) {
        let _one_at_a_time = pool.hearing.lock().await;
        let heard = (0..pool.lanes.len()).filter(|lane| pool.lanes[*lane].is_heard());
        join_all(heard.map(|lane| async move {
            pool.lanes[lane].set_heard(false);
            let _ = self.link.listen(&pool.channel(lane), false).await;
        }))
        .await;
    }

    /// Serves those that wait whenever a shard tells of something.
    pub(super) async fn hear(self: Arc<Self>, mut pushes: Pushes) {
        while let Some(push) = pushes.recv().await {
            let Some(serial) = self.serial_in(&push) else { continue };
            if let Some(pool) = self.registry.by_serial(serial) {
                pool.line.note_news();
            }
        }
    }

    /// The serial of the pool that a message of another server is about.
    fn serial_in(&self, push: &PushInfo) -> Option<u32> {
        let [Value::BulkString(channel), Value::BulkString(sender)] = &push.data[..] else {
            return None;
        };
        let text = str::from_utf8(channel).ok()?.strip_prefix('{')?.strip_prefix(&self.prefix)?;
        let serial = text.strip_prefix('/')?.split('/').next()?.parse().ok();
        serial.filter(|_| sender[..] != self.me)
    }
}
