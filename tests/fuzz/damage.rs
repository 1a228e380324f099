//! Golden directories of the format, mutated: bytes, blocks, files, and fields of heads and frames. Most of them get the
//! right checksums again, so that the readers behind those are reached.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

/// Where the frames of a segment and the blocks of a snapshot begin.
const HEAD_ROOM: usize = 4096;
/// Numbers in the head of a file: see `src/journal/head.rs`.
const HEAD_FIELDS: [usize; 9] = [8, 32, 40, 48, 56, 64, 72, 96, 136];

type Files = Vec<(String, Vec<u8>)>;

/// A directory, and what was done to it.
pub(crate) struct Damaged {
    pub(crate) golden: &'static str,
    pub(crate) files: Files,
    changes: Vec<String>,
}

impl fmt::Debug for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the golden directory {} with {:?}", self.golden, self.changes)
    }
}

fn load(name: &str) -> Files {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let mut files: Files = fs::read_dir(path)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

static GOLDEN: LazyLock<[(&str, Files); 3]> =
    LazyLock::new(|| ["plain", "torn", "sealed"].map(|name| (name, load(name))));

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(number)
}

/// Where the frames or blocks of a file begin, and where their payloads do and end.
fn parts(name: &str, bytes: &[u8]) -> Vec<[usize; 3]> {
    let is_segment = name.starts_with("segment-");
    let head = if is_segment { 48 } else { 16 };
    let (mut at, mut parts) = (HEAD_ROOM, Vec::new());
    while at + head <= bytes.len() {
        let length = usize::try_from(number::<4>(bytes, at + 4)).unwrap();
        let end = at + head + length;
        // Nothing follows.
        if end > bytes.len() || is_segment && number::<8>(bytes, at + 8) == 0 {
            break;
        }
        parts.push([at, at + head, end]);
        at = if is_segment { end.next_multiple_of(8) } else { end };
    }
    parts
}

/// Gives a file the checksums that its contents should have.
fn correct(name: &str, bytes: &mut [u8]) {
    if bytes.len() < 144 {
        return;
    }
    let checksum = crc32c::crc32c(&bytes[16..144]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    let seed = [&bytes[16..32], &bytes[32..40], &bytes[104..120]];
    let seed = seed.into_iter().fold(0, crc32c::crc32c_append);
    for [at, _, end] in parts(name, bytes) {
        let checksum = crc32c::crc32c_append(seed, &bytes[at + 4..end]);
        bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// A number that a reader may stumble over.
fn odd(random: &mut SmallRng, old: u64) -> u64 {
    let some = [0, 1, 2, 4096, u64::from(u32::MAX), 1 << 40, 1 << 63, u64::MAX - 1, u64::MAX];
    match random.random_range(0..4) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => *some.choose(random).expect("there are some"),
        _ => random.random(),
    }
}

impl Damaged {
    pub(crate) fn make(random: &mut SmallRng) -> Self {
        let (golden, files) = GOLDEN.choose(random).expect("there are some");
        let mut made = Self { golden, files: files.clone(), changes: Vec::new() };
        // Some stay as they are.
        for _ in 0..random.random_range(0..4) {
            if !made.files.is_empty() {
                let change = made.change(random);
                made.changes.push(change);
            }
        }
        if random.random_ratio(3, 4) {
            made.files.iter_mut().for_each(|(name, bytes)| correct(name, bytes));
            made.changes.push("checksums corrected".to_owned());
        }
        made
    }

    fn change(&mut self, random: &mut SmallRng) -> String {
        let which = random.random_range(0..self.files.len());
        let (name, bytes) = &mut self.files[which];
        let shown = name.clone();
        // Most of a segment may be empty.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let at = random.random_range(0..used);
        let length = random.random_range(1..=256.min(used));
        let [from, to] = [(); 2].map(|()| random.random_range(0..=used - length) / 8 * 8);
        match random.random_range(0..15) {
            0 if at < bytes.len() => {
                let bit = random.random_range(0..8);
                bytes[at] ^= 1 << bit;
                format!("bit {bit} of byte {at} of {shown}")
            }
            1 => {
                bytes.truncate(at);
                format!("{shown} cut at {at}")
            }
            2 if used <= bytes.len() => {
                let (one, other) =
                    (bytes[from..][..length].to_vec(), bytes[to..][..length].to_vec());
                bytes[from..][..length].copy_from_slice(&other);
                bytes[to..][..length].copy_from_slice(&one);
                format!("{length} bytes at {from} and {to} of {shown} swapped")
            }
            3 if used <= bytes.len() => {
                bytes.copy_within(from..from + length, to);
                format!("{length} bytes at {from} of {shown} repeated at {to}")
            }
            4 if used <= bytes.len() => {
                bytes[from..][..length].fill(0);
                format!("{length} bytes at {from} of {shown} gone")
            }
            5 => {
                self.files.remove(which);
                format!("{shown} gone")
            }
            6 => {
                let other = random.random_range(0..self.files.len());
                let bytes = self.files[other].1.clone();
                self.files[which].1 = bytes;
                format!("{shown} has what {} had", self.files[other].0)
            }
            7 if bytes.len() >= 144 => {
                let (kind, _) = shown.split_once('-').expect("the name of a file");
                let new = odd(random, number::<8>(bytes, 32));
                bytes[32..40].copy_from_slice(&new.to_le_bytes());
                let renamed = format!("{kind}-{new:012}");
                // In place of one that has this name.
                self.files[which].0.clone_from(&renamed);
                format!("{shown} is {renamed}")
            }
            8 | 9 if bytes.len() >= 144 => {
                let field = *HEAD_FIELDS.choose(random).expect("there are some");
                let width = if field == 8 { 4 } else { 8 };
                let new = odd(random, number::<8>(bytes, field));
                bytes[field..field + width].copy_from_slice(&new.to_le_bytes()[..width]);
                format!("{new} at {field} in the head of {shown}")
            }
            kind => self.change_part(random, which, kind % 3 == 0),
        }
    }

    /// Changes a frame or a block: its head, or what it has.
    fn change_part(&mut self, random: &mut SmallRng, which: usize, is_head: bool) -> String {
        let (name, bytes) = &mut self.files[which];
        let parts = parts(name, bytes);
        let Some([at, payload, end]) = parts.choose(random).copied() else {
            return format!("nothing in {name}");
        };
        if is_head || end == payload {
            let width = if name.starts_with("segment-") && random.random() { 8 } else { 4 };
            let field = at + random.random_range(1..(payload - at) / width) * width;
            let old =
                if width == 8 { number::<8>(bytes, field) } else { number::<4>(bytes, field) };
            let new = odd(random, old);
            bytes[field..field + width].copy_from_slice(&new.to_le_bytes()[..width]);
            format!("{new} in {width} bytes at {field} of {name}")
        } else {
            let place = random.random_range(payload..end);
            let value = *[0, 1, 0x7f, 0xff, bytes[place] ^ 1 << random.random_range(0..8)]
                .choose(random)
                .expect("there are some");
            bytes[place] = value;
            format!("{value} at {place} of {name}")
        }
    }

    /// Writes it to a folder, in place of what is there.
    pub(crate) fn write(&self, path: &Path) {
        let _ = fs::remove_dir_all(path);
        fs::create_dir(path).unwrap();
        for (name, bytes) in &self.files {
            fs::write(path.join(name), bytes).unwrap();
        }
    }
}
