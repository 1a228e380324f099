//! Tests of the state machine of one key.

use super::lapse::LapseCooldown;
use super::packed::Packed;
use super::record::{Part, Record};
use super::short_id::ShortId;
use crate::key::{KeyId, State};
use crate::time::Timestamp;

const ID: [u8; 8] = [1, 2, 3, 4, 5, 6, 0x47, 8];

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(ms)
}

fn new() -> Record {
    Record::new(ID, at(7), at(107))
}

#[test]
fn a_record_is_small() {
    assert_eq!((size_of::<Record>(), align_of::<Record>()), (42, 1));
}

#[test]
fn flags_change_nothing_of_the_id() {
    let mut record = new();
    assert_eq!((record.id(), record.has_own()), (ID, false));
    record.set(Part::Value, true);
    assert_eq!((record.id(), record.has(Part::Value), record.has_own()), (ID, true, true));
    record.set(Part::Value, false);
    assert_eq!((record.id(), record.has(Part::Value), record.has_own()), (ID, false, false));
}

#[test]
fn packed_numbers_keep_their_value() {
    for value in [0, 1, 255, 256, Packed::<5>::MAX] {
        assert_eq!(Packed::<5>::new(value).get(), value);
    }
    assert_eq!(Packed::<5>::MAX, Timestamp::NEVER.as_ms());
}

#[test]
fn a_life_without_end_has_no_entry_that_moves() {
    let mut record = new();
    assert!(!record.move_life(Timestamp::NEVER));
    assert_eq!(record.life_ends(), at(107));
    record.arm_life(Timestamp::NEVER);
    assert_eq!(record.life_entry(), Timestamp::NEVER);
    assert_eq!(record.life_ends(), Timestamp::NEVER);
}

#[test]
fn a_moved_life_keeps_its_entry_and_its_creation() {
    let mut record = new();
    assert!(record.move_life(at(150)));
    assert_eq!((record.life_entry(), record.life_ends()), (at(107), at(150)));
    assert_eq!(record.created_at(), at(7));
    record.arm_life(at(150));
    assert_eq!((record.life_entry(), record.life_ends()), (at(150), at(150)));
}

#[test]
fn a_life_that_moves_too_far_changes_nothing() {
    let mut record = new();
    assert!(record.move_life(at(107 + Packed::<4>::MAX)));
    assert!(!record.move_life(at(108 + Packed::<4>::MAX)));
    assert_eq!(record.life_ends(), at(107 + Packed::<4>::MAX));
}

#[test]
fn each_lease_and_each_release_has_its_own_generation() {
    let mut record = new();
    assert_eq!((record.generation(), record.block()), (0, None));
    record.start_lease(at(20), at(30), 0);
    assert_eq!((record.generation(), record.block()), (1, Some((at(20), at(30)))));
    record.renew(at(25), at(40));
    assert_eq!((record.generation(), record.block()), (1, Some((at(25), at(40)))));
    assert_eq!((record.generation_at(at(39), 0), record.generation_at(at(40), 0)), (1, 2));
    record.end_block(0);
    assert_eq!((record.generation(), record.block()), (2, None));
}

#[test]
fn generations_below_the_floor_are_left_out_once_they_change() {
    let mut record = new();
    record.start_lease(at(20), at(30), 0);
    // The lease keeps its own, and what comes after it has none that may have been given before.
    assert_eq!((record.generation_at(at(29), 100), record.generation_at(at(30), 100)), (1, 100));
    record.renew(at(25), at(40));
    assert_eq!(record.generation(), 1);
    record.end_block(100);
    assert_eq!(record.generation(), 100);
    record.start_lease(at(50), at(60), 100);
    assert_eq!(record.generation(), 101);
    let mut record = new();
    record.cool(at(20), at(30), 100);
    record.cool(at(20), at(40), 100);
    assert_eq!((record.generation(), record.is_leased()), (100, false));
    let mut record = new();
    record.start_lease(at(20), at(30), 100);
    assert_eq!((record.generation(), record.is_leased()), (101, true));
}

#[test]
fn a_cool_down_is_no_lease_and_makes_the_hint_stale() {
    let mut record = new();
    let (_, key) = ShortId::split(&KeyId::from_bytes([0; 16]));
    let hint = record.hint(key);
    record.cool(at(20), at(30), 0);
    let cooling = State::Cooling { since: at(20), until: at(30) };
    let state = |ms| record.state(key, at(ms), || LapseCooldown::new(5));
    assert_eq!((state(29), state(30)), (cooling, State::Free));
    assert_eq!((record.is_leased(), record.hint(key)), (false, None));
    record.cool(at(20), at(40), 0);
    record.end_block(0);
    assert!(record.hint(key).is_some() && record.hint(key) != hint);
    record.start_lease(at(50), at(60), 0);
    let leased = record.generation();
    record.cool(at(55), at(70), 0);
    assert_eq!((record.is_leased(), record.generation()), (false, leased + 1));
}

#[test]
fn a_lease_that_lapses_is_followed_by_a_cool_down() {
    let mut record = new();
    let (_, key) = ShortId::split(&KeyId::from_bytes([0; 16]));
    record.start_lease(at(20), at(30), 0);
    let state = |record: &Record, ms| record.state(key, at(ms), || LapseCooldown::new(5));
    let cooling = State::Cooling { since: at(30), until: at(35) };
    assert!(matches!(state(&record, 29), State::Leased(_)));
    assert_eq!([30, 34, 35].map(|ms| state(&record, ms)), [cooling, cooling, State::Free]);
    assert_eq!(record.state(key, at(30), LapseCooldown::default), State::Free);
    assert_eq!((record.generation_at(at(29), 0), record.generation_at(at(35), 0)), (1, 2));
    record.cool(at(30), at(35), 0);
    assert_eq!([30, 34, 35].map(|ms| state(&record, ms)), [cooling, cooling, State::Free]);
    assert_eq!(record.generation_at(at(30), 0), 2);
}
