//! How many keys a token may have leased at once.

/// The largest quota.
const HELD_MAX: usize = 1_000_000;

/// Reads the most leases at once: from 1 to a million. O(length).
///
/// # Errors
///
/// A message that describes the right form.
pub fn parse_max_held(text: &str) -> Result<usize, String> {
    let max = text.parse().ok().filter(|max| (1..=HELD_MAX).contains(max));
    // A sign would be read, too.
    max.filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| format!("must be a number of keys from 1 to {HELD_MAX}, such as 10"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_number_of_keys() {
        assert_eq!((parse_max_held("1"), parse_max_held("1000000")), (Ok(1), Ok(HELD_MAX)));
        for bad in ["", "0", "1000001", "99999999999", "-1", "+1", "1.5", "ten", "1 0", "unlimited"]
        {
            let error = parse_max_held(bad).unwrap_err();
            assert!(error.contains("from 1 to 1000000, such as 10"), "{bad}: {error}");
        }
    }
}
