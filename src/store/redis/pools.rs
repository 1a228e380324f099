//! Pools come and go, on whichever server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::sleep;
use tracing::warn;

use super::failure::UNAVAILABLE;
use super::lane::Kind;
use super::library::Function;
use super::pool::Pool;
use super::registry::{Row, Table, read_table, write_settings};
use super::state::Shared;
use super::wire::{Code, Reader, Writer, status};
use crate::error::Error;
use crate::pool::{PoolId, PoolName, Settings};
use crate::time::Clock;

/// How long a server hears of a pool after the last of those that have waited.
const HEARING: Duration = Duration::from_mins(1);
/// How often a server asks whether the table has changed.
const REFRESH: Duration = Duration::from_secs(1);

/// The format of what is kept in the engine. A version that changes it has another one, and converts what it finds.
const FORMAT: &str = "1";

impl<C: Clock> Shared<C> {
    /// Makes sure that this version can read what is in the engine.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::PermissionDenied`] if it cannot.
    pub(super) async fn check_format(&self) -> io::Result<()> {
        let found = self.ask_about_pools(&["format", FORMAT]).await.map_err(io::Error::other)?;
        if found == FORMAT.as_bytes() {
            return Ok(());
        }
        let text = format!(
            "what is there has format {}, and this version knows format {FORMAT}: use the version that wrote it, or another \
             --store-prefix",
            found.escape_ascii()
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }

    async fn ask_about_pools<A: AsRef<[u8]>>(&self, arguments: &[A]) -> Result<Vec<u8>, Error> {
        let key = format!("{{{}}}pools", self.prefix);
        self.link.ask(Function::Pools, key.as_bytes(), arguments).await
    }

    async fn ask_table<A: AsRef<[u8]>>(&self, arguments: &[A]) -> Result<Table, Error> {
        let answer = self.ask_about_pools(arguments).await?;
        let without_status = [&b"version"[..], b"list", b"restore"];
        let has_status = !without_status.contains(&arguments[0].as_ref());
        read_table(&answer, has_status).map_err(|_| UNAVAILABLE)
    }

    /// Takes over the table.
    fn apply(self: &Arc<Self>, table: &Table) {
        let mut copy = self.registry.pools.write();
        if table.version < copy.of {
            return;
        }
        copy.of = table.version;
        let serials = table.rows.iter().map(|row| row.serial);
        copy.last_serial = serials.chain([copy.last_serial]).max().unwrap_or(0);
        let before = std::mem::take(&mut copy.by_serial);
        copy.by_name.clear();
        let mut is_changed = false;
        for row in table.rows.iter().filter(|row| row.is_ready) {
            let pool = before.get(&row.serial).cloned().unwrap_or_else(|| {
                is_changed = true;
                self.pool_of(row)
            });
            pool.set_settings(row.settings);
            copy.by_name.insert(row.name.clone(), Arc::clone(&pool));
            copy.by_serial.insert(row.serial, pool);
        }
        let gone: Vec<_> = before
            .into_values()
            .filter(|pool| !copy.by_serial.contains_key(&pool.id.serial))
            .collect();
        if is_changed || !gone.is_empty() {
            self.registry.version.fetch_add(1, SeqCst);
        }
        drop(copy);
        for pool in gone {
            pool.note_deleted();
            for entry in pool.line.close() {
                self.end(&pool, entry, Error::NoSuchPool);
            }
        }
    }

    fn pool_of(&self, row: &Row) -> Arc<Pool> {
        let id = PoolId { place: row.serial, serial: row.serial };
        let waiting = Arc::clone(&self.waiting);
        Pool::new(
            &self.prefix,
            id,
            row.name.clone(),
            row.settings,
            row.shards,
            waiting,
            self.options.waiters_max,
        )
    }

    /// Brings the copy up to date.
    pub(super) async fn refresh(self: &Arc<Self>) -> Result<(), Error> {
        let mut table = self.ask_table(&["list"]).await?;
        self.note_seen(table.now);
        let restoring = {
            let copy = self.registry.pools.read();
            (table.version < copy.of).then(|| copy.restoring())
        };
        if let Some(restoring) = restoring {
            warn!("the store has lost its table of pools, which is restored");
            table = self.ask_table(&restoring).await?;
        }
        self.apply(&table);
        Ok(())
    }

    /// Whether a pool is in the table, whose shard says that it is not open.
    pub(super) async fn is_still_there(self: &Arc<Self>, pool: &Pool) -> Result<bool, Error> {
        self.refresh().await?;
        Ok(self.registry.get(pool.id).is_some())
    }

    /// Keeps the copy up to date.
    pub(super) async fn follow(self: Arc<Self>) {
        loop {
            sleep(REFRESH).await;
            for pool in self.registry.all() {
                if pool.line.has_been_empty_for(HEARING) {
                    self.hear_no_more(&pool).await;
                }
            }
            if let Ok(table) = self.ask_table(&["version"]).await
                && table.version != self.registry.pools.read().of
            {
                let _ = self.refresh().await;
            }
        }
    }

    /// Creates a pool, or changes its settings. True if it is new.
    pub(super) async fn put(
        self: &Arc<Self>,
        name: PoolName,
        settings: Settings,
    ) -> Result<bool, Error> {
        self.refresh().await?;
        let shards = self.options.shards;
        let before = self.registry.find(name.as_str()).and_then(|id| self.registry.get(id));
        let shards = before.as_ref().map_or(shards, |pool| pool.lanes.len());
        let (row, most) = (write_settings(settings, shards), self.options.pools_max.to_string());
        let table =
            self.ask_table(&[b"put", name.as_str().as_bytes(), &row, most.as_bytes()]).await?;
        if table.status == Some(status::TAKEN) {
            return Err(Error::TooManyPools);
        }
        let row = table.rows.iter().find(|row| row.name == name).ok_or(UNAVAILABLE)?;
        if !row.is_ready {
            let pool = self.pool_of(row);
            let opened = (0..pool.lanes.len()).map(|lane| self.open_shard(&pool, lane, table.now));
            try_join_all(opened).await?;
            self.configure(&pool, settings).await?;
            let serial = row.serial.to_be_bytes();
            let table = self.ask_table(&[b"ready", name.as_str().as_bytes(), &serial]).await?;
            self.apply(&table);
            return Ok(true);
        }
        self.apply(&table);
        let id = self.registry.find(name.as_str()).ok_or(Error::NoSuchPool)?;
        if let Some(pool) = self.registry.get(id) {
            self.configure(&pool, settings).await?;
            pool.line.note_news();
        }
        Ok(false)
    }

    /// Tells all shards of settings that they apply themselves.
    async fn configure(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        settings: Settings,
    ) -> Result<(), Error> {
        let operation = Writer::new(Code::Configure).number::<4>(settings.lapse_cooldown_ms.into());
        self.ask_until_done(pool, &operation).await
    }

    /// Asks all shards the same again and again until all have done it.
    async fn ask_until_done(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        operation: &Writer,
    ) -> Result<(), Error> {
        loop {
            let read = |reader: &mut Reader<'_>, _| Ok(Ok(reader.byte()? == status::OK));
            let mut is_done = true;
            for answer in self.ask_all(pool, operation, Kind::Change, read).await {
                match answer {
                    Ok(done) => is_done &= done,
                    // It is gone already.
                    Err(Error::NoSuchPool) => {}
                    Err(error) => return Err(error),
                }
            }
            if is_done {
                return Ok(());
            }
        }
    }

    /// Deletes a pool.
    pub(super) async fn delete(self: &Arc<Self>, name: &str, with_keys: bool) -> Result<(), Error> {
        if name == PoolName::DEFAULT {
            return Err(Error::DefaultPool);
        }
        self.refresh().await?;
        let id = self.registry.find(name).ok_or(Error::NoSuchPool)?;
        let pool = self.registry.get(id).ok_or(Error::NoSuchPool)?;
        let close = Writer::new(Code::Close).number::<1>((!with_keys).into());
        let read = |reader: &mut Reader<'_>, _| Ok(Ok(reader.byte()? == status::OK));
        let closed = self.ask_all(&pool, &close, Kind::Change, read).await;
        if closed.iter().any(|closed| *closed != Ok(true)) {
            self.ask_until_done(&pool, &Writer::new(Code::Reopen)).await?;
            let failed = closed.into_iter().find_map(Result::err);
            return Err(failed.unwrap_or(Error::PoolNotEmpty));
        }
        let serial = id.serial.to_be_bytes();
        let table = self.ask_table(&[b"delete", name.as_bytes(), &serial]).await?;
        self.apply(&table);
        self.ask_until_done(&pool, &Writer::new(Code::Drop)).await
    }
}
