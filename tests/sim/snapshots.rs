//! Snapshots and frames, step by step: what a crash in between, or a try that fails, must not spoil.

use std::sync::Arc;

use token_orchestrator::journal::{Begun, DataKey, Disk, Durability};
use token_orchestrator::pool::PoolName;
use token_orchestrator::time::Timestamp;

use super::disk::SimDisk;
use super::durable::settings;
use super::threads::{Empty, begin, begin_with};

const SEGMENT_BYTES: u64 = 64 * 1024;
/// Of a file, and of a block.
const FILE_HEAD_BYTES: usize = 4096;
const BLOCK_HEAD_BYTES: usize = 16;
const NOW: Timestamp = Timestamp::from_ms(0);

/// The bytes of the snapshot.
fn snapshot(disk: &SimDisk) -> Vec<u8> {
    let names = disk.list().unwrap();
    disk.bytes(names.iter().find(|name| name.starts_with("snapshot-")).unwrap())
}

fn pool_name(number: u32) -> PoolName {
    format!("{number:060}").parse().unwrap()
}

/// The payloads of the blocks of a snapshot, with their checksums and lengths.
fn blocks(snapshot: &[u8]) -> Vec<&[u8]> {
    let (mut blocks, mut rest) = (Vec::new(), &snapshot[FILE_HEAD_BYTES..]);
    while !rest.is_empty() {
        let length = u32::from_le_bytes(*rest[4..].first_chunk().unwrap());
        let (block, behind) = rest.split_at(BLOCK_HEAD_BYTES + usize::try_from(length).unwrap());
        blocks.push(&block[BLOCK_HEAD_BYTES..]);
        rest = behind;
    }
    blocks
}

/// With a key, two tries to write the same snapshot would else encrypt different keys with one nonce, which gives both away.
#[test]
fn each_try_to_write_a_snapshot_encrypts_with_nonces_of_its_own() {
    let disk = SimDisk::new(1);
    let key = DataKey::new([7; 32]);
    let (journal, begun) = begin_with(&disk, SEGMENT_BYTES, Durability::Commit, Some(key));
    let Begun { mut committer, mut snapshots } = begun;
    journal.note_pool(1, &pool_name(1), settings(0), NOW);
    let start = committer.commit(|| NOW, true, &|_| ()).unwrap().expect("it is wanted");
    let source = Empty::default();
    let spares = Arc::clone(&committer.spares);
    // It waits for this one when all its blocks are written, after a pause for each pool.
    journal.note_pool(1, &pool_name(2), settings(0), NOW);
    let mut pauses = 0;
    let ends = |_| {
        pauses += 1;
        pauses < 3
    };
    assert!(!snapshots.write(&start, &source, &journal, &spares, ends).unwrap());
    let first = disk.bytes("snapshot.tmp");
    committer.commit(|| NOW, false, &|_| ()).unwrap();
    assert!(snapshots.write(&start, &source, &journal, &spares, |_| true).unwrap());
    let second = snapshot(&disk);
    assert!(!blocks(&first).is_empty());
    for (first, second) in blocks(&first).iter().zip(blocks(&second)) {
        assert_ne!(*first, second, "one nonce for two tries");
    }
}

/// A reader refuses a block that is longer than a few records more than its size.
#[test]
fn no_block_of_a_snapshot_grows_with_the_number_of_pools() {
    let disk = SimDisk::new(1);
    let (journal, Begun { mut committer, mut snapshots }) = begin(&disk, 16 * SEGMENT_BYTES);
    for number in 1..=2000 {
        journal.note_pool(number, &pool_name(number), settings(0), NOW);
    }
    let start = committer.commit(|| NOW, true, &|_| ()).unwrap().expect("it is wanted");
    let spares = Arc::clone(&committer.spares);
    let source = Empty::default();
    assert!(snapshots.write(&start, &source, &journal, &spares, |_| true).unwrap());
    let snapshot = snapshot(&disk);
    let longest = blocks(&snapshot).iter().map(|block| block.len()).max().unwrap();
    assert!(longest < 1024, "{longest} bytes, of {}", snapshot.len());
    assert_eq!(start.pools.len(), 2000);
}

/// A loss of power between the head of a segment and its first frame, which says which generations are reserved, would else
/// leave a directory in which they are given again.
#[test]
fn the_first_frame_of_a_segment_is_on_disk_before_it_is_answered_in_each_mode() {
    for durability in [Durability::Commit, Durability::EverySecond] {
        let disk = SimDisk::new(1);
        let (journal, begun) = begin_with(&disk, SEGMENT_BYTES, durability, None);
        let Begun { mut committer, .. } = begun;
        let mut changes = 0;
        while changes < 3 {
            if !committer.spares.has_one() {
                committer.spares.prepare().unwrap();
            }
            (0..100)
                .for_each(|number| journal.note_pool(number, &pool_name(number), settings(0), NOW));
            committer.commit(|| NOW, false, &|_| ()).unwrap();
            if !committer.spares.has_one() {
                changes += 1;
                assert_eq!(journal.durable(), journal.committed(), "{durability:?}");
            }
        }
    }
}
