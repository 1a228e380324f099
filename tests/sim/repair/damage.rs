//! Ways to damage a directory.

use rand::RngExt;
use rand::rngs::StdRng;

use super::Files;
use super::known::{Known, Part};

/// Damages something, and says what.
pub(super) fn damage(files: &mut Files, known: &Known, rng: &mut StdRng) -> String {
    let names: Vec<_> = files.keys().filter(|name| name.contains("-0")).cloned().collect();
    let Some(name) = names.get(rng.random_range(0..names.len().max(1))).cloned() else {
        return "nothing is left".to_owned();
    };
    match rng.random_range(0..20) {
        0 => {
            files.remove(&name);
            format!("{name} is gone")
        }
        1 => {
            let bytes = files.get_mut(&name).unwrap();
            let length = rng.random_range(0..bytes.len().max(1));
            bytes.truncate(length);
            format!("{name} is cut short at {length}")
        }
        2 => flip(files, &Part { file: name, from: 0, to: 144 }, rng),
        3 => {
            let bytes = files.get_mut(&name).unwrap();
            let sector = rng.random_range(0..=bytes.len() / 512) * 512;
            let end = bytes.len().min(sector + 512);
            rng.fill(&mut bytes[sector.min(end)..end]);
            format!("the sector at {sector} of {name} is another one")
        }
        4..8 if !known.blocks.is_empty() => {
            let block = rng.random_range(0..known.blocks.len());
            flip(files, &known.blocks[block].clone(), rng)
        }
        _ => {
            let frames: Vec<_> = known.frames.values().collect();
            let frame = frames[rng.random_range(0..frames.len())].clone();
            flip(files, &frame, rng)
        }
    }
}

fn flip(files: &mut Files, Part { file, from, to }: &Part, rng: &mut StdRng) -> String {
    let (at, bit) = (rng.random_range(*from..*to), rng.random_range(0..8));
    if let Some(byte) = files.get_mut(file).and_then(|bytes| bytes.get_mut(at)) {
        *byte ^= 1 << bit;
    }
    format!("bit {bit} of byte {at} of {file}")
}
