//! The obvious pool: a map, and scans through all of it.

use std::collections::{BTreeMap, BTreeSet};

use token_orchestrator::engine::Settings;
use token_orchestrator::error::Error;
use token_orchestrator::key::{
    Fence, Holder, KeyId, KeyInfo, Label, Lease, Leased, OwnInfo, State, Value,
};
use token_orchestrator::pool::PoolId;
use token_orchestrator::time::Timestamp;

pub(crate) struct Model {
    settings: Settings,
    /// The cool-downs after a lapse, each with the time at which it was set.
    lapse_cooldowns: Vec<(Timestamp, u32)>,
    /// As they were when they were last changed. Keys that are dead stay until they are removed,
    /// as in the pool.
    keys: BTreeMap<KeyId, KeyInfo>,
    /// What keys have of their own.
    values: BTreeMap<KeyId, Value>,
    /// Created, expired, deleted, leases, stale refusals.
    pub(crate) created: u64,
    pub(crate) expired: u64,
    pub(crate) deleted: u64,
    pub(crate) leases: u64,
    pub(crate) stale_refusals: u64,
}

impl Model {
    pub(crate) fn new(settings: Settings) -> Self {
        let (keys, values) = (BTreeMap::new(), BTreeMap::new());
        Self {
            settings,
            lapse_cooldowns: vec![(Timestamp::default(), settings.lapse_cooldown_ms)],
            keys,
            values,
            created: 0,
            expired: 0,
            deleted: 0,
            leases: 0,
            stale_refusals: 0,
        }
    }

    pub(crate) fn room(&self) -> usize {
        self.settings.keys_max.saturating_sub(self.keys.len())
    }

    pub(crate) fn configure(&mut self, settings: Settings, now: Timestamp) {
        self.settings = settings;
        self.lapse_cooldowns.push((now, settings.lapse_cooldown_ms));
    }

    /// The state of a key whose lease lapsed at `end`.
    fn lapsed(&self, end: Timestamp, now: Timestamp) -> State {
        let mut before = self.lapse_cooldowns.iter().rev().skip_while(|(at, _)| *at >= end);
        let (_, ms) = before.next().expect("no lease ends at 0");
        let until = end.plus_ms(u64::from(*ms));
        if until > now { State::Cooling { since: end, until } } else { State::Free }
    }

    pub(crate) fn create(&mut self, id: KeyId, now: Timestamp) {
        let life_ends = self.settings.ttl.life_ends(now);
        let (state, own) = (State::Free, None);
        let key = KeyInfo { created_at: now, life_ends, generation: 0, state, own };
        self.keys.insert(id, key);
        self.created += 1;
    }

    pub(crate) fn create_with(
        &mut self,
        id: KeyId,
        now: Timestamp,
        value: Option<Value>,
        labels: Vec<Label>,
    ) {
        self.create(id, now);
        self.values.extend(value.map(|value| (id, value)));
        let info = self.keys.get_mut(&id).expect("it was just created");
        info.own = OwnInfo { labels, holder: None }.boxed();
    }

    /// The labels of all keys.
    pub(crate) fn labels(&self) -> BTreeSet<Label> {
        self.keys.values().flat_map(|info| info.labels().iter().cloned()).collect()
    }

    /// The keys with leases that last and have such a holder.
    pub(crate) fn held_by(&self, now: Timestamp, is_meant: impl Fn(&Holder) -> bool) -> Vec<KeyId> {
        let is_held = |id: &&KeyId| {
            let info = self.get(id, now);
            info.is_ok_and(|info| info.holder().is_some_and(&is_meant))
        };
        self.keys.keys().filter(is_held).copied().collect()
    }

    /// The free keys that have this label.
    pub(crate) fn free_with(&self, label: &Label, now: Timestamp) -> Vec<KeyId> {
        let mut free = self.free(now);
        free.retain(|id| self.keys[id].labels().contains(label));
        free
    }

    /// The living key that has this value.
    pub(crate) fn key_with(&self, value: &Value, now: Timestamp) -> Option<KeyId> {
        let mut keys = self.values.iter().filter(|(_, other)| *other == value).map(|(id, _)| id);
        keys.find(|id| self.get(id, now).is_ok()).copied()
    }

    /// The bytes of all values.
    pub(crate) fn value_bytes(&self) -> usize {
        self.values.values().map(|value| value.reveal().len()).sum()
    }

    /// A key as it is at `now`.
    pub(crate) fn get(&self, id: &KeyId, now: Timestamp) -> Result<KeyInfo, Error> {
        let info = self.keys.get(id).filter(|info| info.life_ends > now).ok_or(Error::NotFound)?;
        let info = info.clone();
        Ok(match info.state {
            State::Leased(lease) if lease.until <= now => {
                let state = self.lapsed(lease.until, now);
                let (generation, own) = (info.generation + 1, with_holder(&info, None));
                KeyInfo { generation, state, own, ..info }
            }
            State::Cooling { until, .. } if until <= now => KeyInfo { state: State::Free, ..info },
            _ => info,
        })
    }

    pub(crate) fn free(&self, now: Timestamp) -> Vec<KeyId> {
        let is_free = |id: &&KeyId| self.get(id, now).is_ok_and(|info| info.state == State::Free);
        self.keys.keys().filter(is_free).copied().collect()
    }

    /// The next end of a lease or a cool-down of a living key.
    pub(crate) fn next_release(&self, now: Timestamp) -> Option<Timestamp> {
        let infos = self.keys.keys().filter_map(|id| self.get(id, now).ok());
        infos.filter_map(|info| info.state.blocked()).map(|(_, until)| until).min()
    }

    /// Notes a lease that the pool gave, which must be what the model would give.
    pub(crate) fn lease(
        &mut self,
        id: &KeyId,
        now: Timestamp,
        lease_ms: u32,
        holder: Option<&Holder>,
    ) -> Result<Leased, Error> {
        let generation = self.get(id, now)?.generation + 1;
        let until = now.plus_ms(u64::from(lease_ms));
        let lease = Lease { pool: PoolId::DEFAULT, id: *id, generation, since: now, until };
        self.leases += 1;
        self.change(id, now, Fence::Any, |info| {
            (info.generation, info.state) = (generation, State::Leased(lease));
            info.own = with_holder(info, holder);
            Ok(())
        })?;
        Ok(Leased { lease, value: self.values.get(id).cloned() })
    }

    pub(crate) fn release(
        &mut self,
        id: &KeyId,
        now: Timestamp,
        fence: Fence<'_>,
        cooldown_ms: u32,
    ) -> Result<(), Error> {
        let end = now.plus_ms(u64::from(cooldown_ms));
        self.change(id, now, fence, |info| {
            let cooling = State::Cooling { since: now, until: end };
            let rest = if cooldown_ms == 0 { State::Free } else { cooling };
            (info.generation, info.state) = match info.state {
                State::Free if cooldown_ms == 0 => (info.generation, State::Free),
                State::Free => (info.generation + 2, rest),
                State::Leased(_) => (info.generation + 1, rest),
                State::Cooling { until, .. } if cooldown_ms > 0 && until >= end => {
                    (info.generation, info.state)
                }
                State::Cooling { .. } => (info.generation, rest),
            };
            info.own = with_holder(info, None);
            Ok(())
        })
    }

    pub(crate) fn renew(
        &mut self,
        id: &KeyId,
        now: Timestamp,
        fence: Fence<'_>,
        lease_ms: u32,
    ) -> Result<Lease, Error> {
        self.change(id, now, fence, |info| {
            let State::Leased(lease) = info.state else { return Err(Error::NotLeased) };
            let until = now.plus_ms(u64::from(lease_ms));
            let lease = Lease { since: now, until, ..lease };
            info.state = State::Leased(lease);
            Ok(lease)
        })
    }

    pub(crate) fn keep_alive(&mut self, id: &KeyId, now: Timestamp) -> Result<Timestamp, Error> {
        let end = self.settings.ttl.life_ends(now);
        self.change(id, now, Fence::Any, |info| {
            info.life_ends = info.life_ends.max(end);
            Ok(info.life_ends)
        })
    }

    pub(crate) fn delete(
        &mut self,
        id: &KeyId,
        now: Timestamp,
        fence: Fence<'_>,
    ) -> Result<(), Error> {
        self.change(id, now, fence, |_| Ok(()))?;
        self.keys.remove(id);
        self.values.remove(id);
        self.deleted += 1;
        Ok(())
    }

    /// Forgets the dead keys that the pool has removed.
    pub(crate) fn bury(&mut self, now: Timestamp, kept: &[KeyId]) {
        let before = self.keys.len();
        self.keys.retain(|id, info| info.life_ends > now || kept.contains(id));
        self.values.retain(|id, _| self.keys.contains_key(id));
        self.expired += (before - self.keys.len()) as u64;
    }

    pub(crate) fn ids(&self) -> Vec<KeyId> {
        self.keys.keys().copied().collect()
    }

    /// All times at which something ends.
    pub(crate) fn deadlines(&self) -> Vec<Timestamp> {
        let mut ends = Vec::new();
        for info in self.keys.values() {
            ends.extend(info.life_ends.unless_never());
            let Some((_, until)) = info.state.blocked() else { continue };
            ends.push(until);
            if let State::Cooling { until, .. } = self.lapsed(until, until) {
                ends.push(until);
            }
        }
        ends
    }

    fn change<T>(
        &mut self,
        id: &KeyId,
        now: Timestamp,
        fence: Fence<'_>,
        change: impl FnOnce(&mut KeyInfo) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut info = self.get(id, now)?;
        if !fence.admits(info.generation) {
            self.stale_refusals += 1;
            return Err(Error::Stale);
        }
        let result = change(&mut info);
        self.keys.insert(*id, info);
        result
    }
}

/// What a key has of its own, with this holder.
fn with_holder(info: &KeyInfo, holder: Option<&Holder>) -> Option<Box<OwnInfo>> {
    OwnInfo { labels: info.labels().to_vec(), holder: holder.cloned() }.boxed()
}
