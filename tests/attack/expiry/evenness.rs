//! Whether keys are drawn evenly.

use std::collections::HashMap;

/// Exceeded by chance once in 90 million tries, and one test tries 32 at most.
pub(super) const DEVIATIONS_MAX: f64 = 5.6;

/// How many standard deviations a chi-square statistic is above its mean. Close to normal also for few
/// degrees of freedom: Wilson and Hilferty, "The Distribution of Chi-Square", 1931.
fn deviations(chi_square: f64, freedom: usize) -> f64 {
    let freedom = f64::from(u32::try_from(freedom).unwrap());
    let spread = 2.0 / (9.0 * freedom);
    ((chi_square / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
}

/// How uneven draws are over classes: how often each was drawn, and how many keys are in it.
fn unevenness_of_classes(classes: &[(u32, u32)]) -> f64 {
    let sum = |count: fn(&(u32, u32)) -> u32| -> f64 {
        classes.iter().map(|class| f64::from(count(class))).sum()
    };
    let (drawn, keys) = (sum(|class| class.0), sum(|class| class.1));
    let each = classes.iter().filter(|class| class.1 > 0).map(|class| {
        let expected = drawn * f64::from(class.1) / keys;
        (f64::from(class.0) - expected).powi(2) / expected
    });
    let (chi_square, count) = each.fold((0.0, 0), |(sum, count), one| (sum + one, count + 1));
    deviations(chi_square, count - 1)
}

/// How uneven draws from a few keys are. Each is to be drawn some ten times at least.
pub(super) fn unevenness_of_keys(keys: &[String], drawn: &[String]) -> f64 {
    let mut counts: HashMap<_, u32> = keys.iter().map(|key| (key, 0)).collect();
    for key in drawn {
        *counts.get_mut(key).expect("a key of the pool") += 1;
    }
    unevenness_of_classes(&counts.into_values().map(|count| (count, 1)).collect::<Vec<_>>())
}

/// How uneven draws from many keys are, by that digit of their ids which shows it best: whatever part
/// of an index is served first, a digit tells keys of it from others.
pub(super) fn unevenness_of_digits(keys: &[String], drawn: &[String]) -> f64 {
    let classes = |place: usize| {
        let mut classes = [(0, 0); 16];
        let digit = |id: &String| char::from(id.as_bytes()[place]).to_digit(16);
        for digit in drawn.iter().filter_map(digit) {
            classes[digit as usize].0 += 1;
        }
        for digit in keys.iter().filter_map(digit) {
            classes[digit as usize].1 += 1;
        }
        classes
    };
    let classes = (0..keys[0].len()).map(classes);
    // All ids have the same dashes, and the same digit for their version.
    let apart = classes.filter(|classes| classes.iter().filter(|class| class.1 > 0).count() > 1);
    let (worst, at) = apart
        .map(|classes| (unevenness_of_classes(&classes), classes))
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .expect("ids have digits");
    println!("{} draws of {} keys, by the worst digit: {at:?}", drawn.len(), keys.len());
    worst
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand::seq::IndexedRandom;
    use uuid::Uuid;

    use super::*;

    fn ids(count: usize) -> Vec<String> {
        let mut rng = rand::rng();
        (0..count).map(|_| Uuid::from_u128(rng.random()).to_string()).collect()
    }

    fn draw(keys: &[String], count: usize) -> Vec<String> {
        let mut rng = rand::rng();
        (0..count).map(|_| keys.choose(&mut rng).expect("keys").clone()).collect()
    }

    #[test]
    fn even_draws_are_told_from_uneven_ones() {
        let keys = ids(100);
        assert!(unevenness_of_keys(&keys, &draw(&keys, 10_000)) < DEVIATIONS_MAX);
        assert!(unevenness_of_keys(&keys, &draw(&keys[..60], 10_000)) > DEVIATIONS_MAX);
        let keys = ids(100_000);
        assert!(unevenness_of_digits(&keys, &draw(&keys, 2000)) < DEVIATIONS_MAX);
        // Twice as many of every fourth key.
        let is_more = |id: &&String| id.ends_with(['0', '4', '8', 'c']);
        let more: Vec<_> = keys.iter().filter(is_more).cloned().collect();
        let drawn = [draw(&keys, 1600), draw(&more, 400)].concat();
        assert!(unevenness_of_digits(&keys, &drawn) > DEVIATIONS_MAX);
    }
}
