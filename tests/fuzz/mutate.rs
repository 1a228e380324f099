//! Input that is nearly right.

/// A small generator of random numbers (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 32) % end as u64).unwrap()
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// One of the corpus, mutated a few times: bytes are flipped, cut out, repeated and moved, others of
/// the corpus are spliced in, and words of the dictionary are put in or over what is there.
pub(crate) fn mutate(random: &mut Random, corpus: &[&str], words: &[&str]) -> Vec<u8> {
    let mut input = random.pick(corpus).as_bytes().to_vec();
    // Some stay as they are.
    for _ in 0..random.below(5) {
        let at = random.below(input.len() + 1);
        let end = at + random.below((input.len() - at).min(20) + 1);
        match random.below(8) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.next().to_be_bytes()[0],
            2 => drop(input.drain(at..end)),
            3 => {
                let part = input[at..end].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, part);
            }
            4 => {
                let other = random.pick(corpus).as_bytes();
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            5 => input.truncate(at),
            6 => drop(input.splice(at..end, random.pick(words).bytes())),
            _ => drop(input.splice(at..at, random.pick(words).bytes())),
        }
    }
    input
}

/// The same as text: what is not is replaced.
pub(crate) fn mutate_text(random: &mut Random, corpus: &[&str], words: &[&str]) -> String {
    String::from_utf8_lossy(&mutate(random, corpus, words)).into_owned()
}
