//! The pools: a table in the engine, of which each server has a copy.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use parking_lot::RwLock;

use super::pool::Pool;
use super::wire::{Malformed, Read, Reader, Writer};
use crate::pool::{PoolId, PoolName, Settings};
use crate::store::port::Listed;
use crate::time::Timestamp;

/// This server's copy of the table.
#[derive(Default)]
pub(super) struct Registry {
    pub(super) pools: RwLock<Copy>,
    /// Changes with the names.
    pub(super) version: AtomicU64,
}

#[derive(Default)]
pub(super) struct Copy {
    pub(super) by_name: BTreeMap<PoolName, Arc<Pool>>,
    pub(super) by_serial: BTreeMap<u32, Arc<Pool>>,
    /// The version of the table that it shows.
    pub(super) of: u64,
    /// The last serial that a pool has had.
    pub(super) last_serial: u32,
}

/// A line of the table.
pub(super) struct Row {
    pub(super) name: PoolName,
    pub(super) serial: u32,
    pub(super) is_ready: bool,
    pub(super) settings: Settings,
    pub(super) shards: usize,
}

/// What the table has answered.
pub(super) struct Table {
    pub(super) now: Timestamp,
    pub(super) version: u64,
    pub(super) status: Option<u8>,
    pub(super) rows: Vec<Row>,
}

impl Registry {
    pub(super) fn get(&self, id: PoolId) -> Option<Arc<Pool>> {
        self.pools.read().by_serial.get(&id.serial).cloned().filter(|pool| pool.id == id)
    }

    pub(super) fn by_serial(&self, serial: u32) -> Option<Arc<Pool>> {
        self.pools.read().by_serial.get(&serial).cloned()
    }

    pub(super) fn find(&self, name: &str) -> Option<PoolId> {
        self.pools.read().by_name.get(name).map(|pool| pool.id)
    }

    pub(super) fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.read().by_serial.values().cloned().collect()
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(SeqCst)
    }

    pub(super) fn list(&self, after: Option<&str>, limit: usize) -> Vec<Listed> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let pools = self.pools.read();
        let behind = pools.by_name.range::<str, _>((from, Bound::Unbounded)).take(limit);
        behind.map(|(name, pool)| Listed { id: pool.id, name: name.clone() }).collect()
    }
}

impl Copy {
    /// What restores the table, if the engine has lost it.
    pub(super) fn restoring(&self) -> Vec<Vec<u8>> {
        let numbers = [self.of.to_string(), self.last_serial.to_string()];
        let rows = self.by_name.values().flat_map(|pool| {
            let settings = write_settings(pool.settings(), pool.lanes.len());
            let row = Writer::bare().number::<4>(pool.id.serial.into()).number::<1>(1);
            [pool.name.as_str().as_bytes().to_vec(), row.bytes(&settings).finish()]
        });
        let head = ["restore".to_owned()].into_iter().chain(numbers).map(String::into_bytes);
        head.chain(rows).collect()
    }
}

pub(super) fn write_settings(settings: Settings, shards: usize) -> Vec<u8> {
    Writer::bare()
        .number::<6>(settings.key_ttl_ms.unwrap_or(0))
        .number::<4>(settings.lease_ttl_ms.into())
        .number::<4>(settings.lease_ms_max.into())
        .number::<4>(settings.cooldown_ms_max.into())
        .number::<4>(settings.wait_ms_max.into())
        .number::<4>(settings.lapse_cooldown_ms.into())
        .number::<6>(settings.keys_max as u64)
        .number::<2>(shards as u64)
        .finish()
}

pub(super) fn read_table(answer: &[u8], has_status: bool) -> Read<Table> {
    let mut reader = Reader::new(answer);
    let (now, version) = (reader.time()?, reader.number::<6>()?);
    let status = if has_status { Some(reader.byte()?) } else { None };
    let mut rows = Vec::new();
    while !reader.is_empty() {
        let name = reader.text::<1>()?.parse().map_err(|_| Malformed)?;
        rows.push(read_row(name, &mut Reader::new(reader.counted::<1>()?))?);
    }
    Ok(Table { now, version, status, rows })
}

fn read_row(name: PoolName, reader: &mut Reader<'_>) -> Read<Row> {
    fn short(reader: &mut Reader<'_>) -> Read<u32> {
        u32::try_from(reader.number::<4>()?).map_err(|_| Malformed)
    }
    let (serial, is_ready) = (short(reader)?, reader.byte()? == 1);
    let settings = Settings {
        key_ttl_ms: Some(reader.number::<6>()?).filter(|ms| *ms > 0),
        lease_ttl_ms: short(reader)?,
        lease_ms_max: short(reader)?,
        cooldown_ms_max: short(reader)?,
        wait_ms_max: short(reader)?,
        lapse_cooldown_ms: short(reader)?,
        keys_max: reader.size::<6>()?,
    };
    Ok(Row { name, serial, is_ready, settings, shards: reader.size::<2>()?.max(1) })
}
