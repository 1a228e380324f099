//! Uniformity: all free keys are equally likely to be served, whichever shard they are in.

use std::collections::{BTreeSet, HashMap};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use token_orchestrator::engine::{Creation, NewKey, Pool, Settings, Size, Terms};
use token_orchestrator::key::{Fence, KeyId, Label, Ttl};
use token_orchestrator::time::Timestamp;

const NOW: Timestamp = Timestamp::from_ms(1);
const LEASE_MS: u32 = 60_000;
/// Exceeded by chance once in 1.7 million tries, and there are 38 a seed.
const DEVIATIONS_MAX: f64 = 5.0;

/// A pool of `keys` free keys and as many that are leased, in shards that are filled as unevenly as
/// `skew` says: 0 as in the server, and the more it is, the fewer keys some shards have.
fn pool_of(keys: usize, size: Size, skew: u32, rng: &mut StdRng) -> (Pool, Vec<KeyId>) {
    let pool = Pool::with_journal(Settings::new(Ttl::default(), 2 * keys), size, ());
    let mut ids = BTreeSet::new();
    while ids.len() < 2 * keys {
        // One at a time, so that a pool that grows does so in between.
        let mut room = pool.reserve(1, NOW).unwrap();
        let id = room.fit(KeyId::from_random_bytes(rng.random()));
        // The bits that follow the variant, which is the first two of the ninth byte, choose the shard.
        let place = f64::from(id.as_bytes()[8] & 0x3f) / 64.0;
        if rng.random_bool(place.powi(skew.cast_signed())) && room.create(id, NOW) {
            ids.insert(id);
        }
    }
    while ids.len() > keys {
        ids.remove(&pool.lease(NOW, LEASE_MS, rng).expect("a free key").id);
    }
    (pool, ids.into_iter().collect())
}

/// Draws each key `times` times on average, one at a time or in groups. Returns how many standard
/// deviations the chi-square statistic is off.
fn unevenness(pool: &Pool, ids: &[KeyId], times: u32, group: usize, rng: &mut StdRng) -> f64 {
    let mut drawn: HashMap<_, u32> = ids.iter().map(|id| (*id, 0)).collect();
    let all = times * u32::try_from(ids.len()).unwrap();
    let (mut leases, mut left) = (Vec::new(), all);
    while left > 0 {
        if group > 1 {
            pool.lease_group(NOW, LEASE_MS, rng, group, &mut leases);
            // Within a group no key comes twice, so only one of each group counts: the last, since what was
            // drawn before it must not matter.
            let last = leases.pop();
            leases.drain(..).for_each(|lease| release(pool, &lease.id));
            leases.extend(last);
        }
        if leases.is_empty() {
            leases.push(pool.lease(NOW, LEASE_MS, rng).expect("a free key"));
        }
        let lease = leases.pop().expect("one lease");
        *drawn.get_mut(&lease.id).expect("a key of the pool") += 1;
        release(pool, &lease.id);
        left -= 1;
    }
    deviations(&drawn, times)
}

/// How many standard deviations the chi-square statistic is off, if each is drawn `times` times on
/// average.
fn deviations(drawn: &HashMap<KeyId, u32>, times: u32) -> f64 {
    let times = f64::from(times);
    let chi_square: f64 = drawn.values().map(|n| (f64::from(*n) - times).powi(2) / times).sum();
    // Close to normal also for few keys: Wilson and Hilferty, "The Distribution of Chi-Square", 1931.
    let freedom = f64::from(u32::try_from(drawn.len() - 1).unwrap());
    let spread = 2.0 / (9.0 * freedom);
    ((chi_square / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
}

/// All keys are leased, and no sweep runs when the leases have lapsed. Each key is then drawn `times`
/// times on average a round, and given back.
fn unevenness_of_lapsed(keys: usize, rounds: u32, times: u32, rng: &mut StdRng) -> f64 {
    let pool = Pool::new(Ttl { key_ttl_ms: 3_600_000, lease_ttl_ms: 10 }, keys, 256);
    let mut room = pool.reserve(keys, NOW).unwrap();
    let ids: Vec<_> = (0..keys).map(|_| KeyId::from_random_bytes(rng.random())).collect();
    assert!(ids.iter().all(|id| room.create(*id, NOW)));
    let mut drawn: HashMap<_, u32> = ids.into_iter().map(|id| (id, 0)).collect();
    let mut now = NOW;
    for _ in 0..rounds {
        for _ in 0..keys {
            pool.lease(now, 10, rng).expect("a free key");
        }
        now = now.plus_ms(10);
        for _ in 0..times * u32::try_from(keys).unwrap() {
            let id = pool.lease(now, 10, rng).expect("a lapsed lease").id;
            *drawn.get_mut(&id).expect("a key of the pool") += 1;
            pool.release(&id, now, Fence::Any, 0).expect("a living key");
        }
    }
    deviations(&drawn, rounds * times)
}

fn release(pool: &Pool, id: &KeyId) {
    pool.release(id, NOW, Fence::Any, 0).expect("a living key");
}

/// Draws each of `keys` keys with a label `times` times on average, by the label, in turn with draws from all keys,
/// which make hints of the label stale. There are as many keys without the label.
fn unevenness_of_labeled(keys: usize, times: u32, rng: &mut StdRng) -> f64 {
    let pool = Pool::new(Ttl::default(), 2 * keys, 256);
    let mut room = pool.reserve(2 * keys, NOW).unwrap();
    let label = Label::new("plan", "pro").unwrap();
    let mut drawn = HashMap::new();
    for _ in 0..keys {
        let id = KeyId::from_random_bytes(rng.random());
        let own = NewKey { labels: std::slice::from_ref(&label), ..NewKey::default() };
        assert_eq!(room.create_with(id, NOW, own), Ok(Creation::New));
        drawn.insert(id, 0_u32);
        assert!(room.create(KeyId::from_random_bytes(rng.random()), NOW));
    }
    let terms = Terms { label: Some(&label), ..Terms::from(LEASE_MS) };
    for _ in 0..times * u32::try_from(keys).unwrap() {
        let id = pool.lease(NOW, terms, rng).expect("a free key").id;
        *drawn.get_mut(&id).expect("a key with the label") += 1;
        release(&pool, &id);
        if rng.random_bool(0.1) {
            release(&pool, &pool.lease(NOW, LEASE_MS, rng).expect("a free key").id);
        }
    }
    deviations(&drawn, times)
}

/// Draws from pools of several shapes.
///
/// # Errors
///
/// A report of the first that is drawn from unevenly.
pub(crate) fn attack(seed: u64) -> Result<u64, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut draws = 0;
    for (keys, times) in [(10, 20_000), (1_000, 400), (100_000, 10)] {
        // A quarter, half or almost none of the keys are in the small half.
        let growing = |small_max| Size::Growing { shards: 64, small_max };
        for (size, skew, group) in [
            (Size::Fixed(256), 0, 1),
            (Size::Fixed(256), 3, 1),
            (Size::Fixed(256), 10, 1),
            (Size::Fixed(16), 3, 1),
            (Size::Fixed(2), 10, 1),
            (Size::Fixed(256), 3, 4),
            // In the same shard, and often at the same place.
            (Size::Fixed(2), 10, 8),
            (Size::Fixed(16), 3, 8),
            (growing(keys / 2), 0, 1),
            (growing(keys), 3, 8),
            (growing(2), 0, 1),
        ] {
            let (pool, ids) = pool_of(keys, size, skew, &mut rng);
            let unevenness = unevenness(&pool, &ids, times, group, &mut rng);
            draws += u64::from(times) * keys as u64;
            // Draws that are too even are as wrong.
            if unevenness.abs() > DEVIATIONS_MAX {
                return Err(format!(
                    "{keys} keys, {size:?}, skew {skew}, groups of {group}: chi-square is \
                     {unevenness:.1} standard deviations off"
                ));
            }
        }
    }
    for (keys, rounds, times) in [(100, 20, 10), (1_000, 10, 20)] {
        let unevenness = unevenness_of_lapsed(keys, rounds, times, &mut rng);
        draws += u64::from(rounds * times) * keys as u64;
        if unevenness.abs() > DEVIATIONS_MAX {
            return Err(format!(
                "{keys} keys whose leases have lapsed: chi-square is {unevenness:.1} standard \
                 deviations off"
            ));
        }
    }
    for (keys, times) in [(10, 20_000), (1_000, 400), (100_000, 10)] {
        let unevenness = unevenness_of_labeled(keys, times, &mut rng);
        draws += u64::from(times) * keys as u64;
        if unevenness.abs() > DEVIATIONS_MAX {
            return Err(format!(
                "{keys} keys with a label: chi-square is {unevenness:.1} standard deviations off"
            ));
        }
    }
    Ok(draws)
}

#[test]
fn every_free_key_is_equally_likely() {
    let seed = super::seed();
    let draws = attack(seed).unwrap_or_else(|report| panic!("SIM_SEED={seed}: {report}"));
    println!("seed {seed}: {draws} draws");
}
