//! Uniformity: every free key is as likely to be served as every other, wherever it is kept.

use std::collections::{BTreeSet, HashMap};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use token_orchestrator::engine::Pool;
use token_orchestrator::key::{Fence, KeyId, Ttl};
use token_orchestrator::time::Timestamp;

const NOW: Timestamp = Timestamp::from_ms(1);
const LEASE_MS: u32 = 60_000;
/// Exceeded by chance once in 1.7 million tries, and there are 24 a seed.
const DEVIATIONS_MAX: f64 = 5.0;

/// A pool of `keys` free keys and as many that are leased, in shards that are filled as unevenly as
/// `skew` says: 0 for as the server does, more for shards of which some have hardly any.
fn pool_of(keys: usize, shards: usize, skew: u32, rng: &mut StdRng) -> (Pool, Vec<KeyId>) {
    let pool = Pool::new(Ttl::default(), 2 * keys, shards);
    let mut room = pool.reserve(2 * keys, NOW).unwrap();
    let mut ids = BTreeSet::new();
    while ids.len() < 2 * keys {
        let id = KeyId::from_random_bytes(rng.random());
        // The shard is told by the bits that follow the variant, the first two of the ninth byte.
        let place = f64::from(id.as_bytes()[8] & 0x3f) / 64.0;
        if rng.random_bool(place.powi(skew.cast_signed())) && room.create(id, NOW) {
            ids.insert(id);
        }
    }
    drop(room);
    while ids.len() > keys {
        ids.remove(&pool.lease(NOW, LEASE_MS, rng).expect("a free key").id);
    }
    (pool, ids.into_iter().collect())
}

/// Draws each key `times` times on average, one at a time or in groups; answers how many standard
/// deviations the chi-square statistic is off.
fn unevenness(pool: &Pool, ids: &[KeyId], times: u32, group: usize, rng: &mut StdRng) -> f64 {
    let mut drawn: HashMap<_, u32> = ids.iter().map(|id| (*id, 0)).collect();
    let all = times * u32::try_from(ids.len()).unwrap();
    let (mut leases, mut left) = (Vec::new(), all);
    while left > 0 {
        if group > 1 {
            pool.lease_group(NOW, LEASE_MS, rng, group, &mut leases);
            // Within a group no key comes twice, so that only one of each is looked at. The last: what
            // was drawn before it must not matter.
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
    let times = f64::from(times);
    let chi_square: f64 = drawn.values().map(|n| (f64::from(*n) - times).powi(2) / times).sum();
    // Close to normal also for few keys: Wilson and Hilferty, "The Distribution of Chi-Square", 1931.
    let freedom = f64::from(u32::try_from(ids.len() - 1).unwrap());
    let spread = 2.0 / (9.0 * freedom);
    ((chi_square / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
}

fn release(pool: &Pool, id: &KeyId) {
    pool.release(id, NOW, Fence::Open, 0).expect("a living key");
}

/// What is uneven, if anything is.
pub(crate) fn attack(seed: u64) -> Result<u64, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut draws = 0;
    for (keys, times) in [(10, 20_000), (1_000, 400), (100_000, 10)] {
        for (shards, skew, group) in [
            (256, 0, 1),
            (256, 3, 1),
            (256, 10, 1),
            (16, 3, 1),
            (2, 10, 1),
            (256, 3, 4),
            // In the same shard, and often at the same place.
            (2, 10, 8),
            (16, 3, 8),
        ] {
            let (pool, ids) = pool_of(keys, shards, skew, &mut rng);
            let unevenness = unevenness(&pool, &ids, times, group, &mut rng);
            draws += u64::from(times) * keys as u64;
            // Too even is no better.
            if unevenness.abs() > DEVIATIONS_MAX {
                return Err(format!(
                    "{keys} keys in {shards} shards, skew {skew}, groups of {group}: chi-square is \
                     {unevenness:.1} standard deviations off"
                ));
            }
        }
    }
    Ok(draws)
}

#[test]
fn every_free_key_is_equally_likely() {
    let seed = crate::seed();
    let draws = attack(seed).unwrap_or_else(|report| panic!("SIM_SEED={seed}: {report}"));
    println!("seed {seed}: {draws} draws");
}
