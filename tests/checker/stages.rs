//! Whether what had ended stayed ended.
//!
//! A key goes through stages, and never back: generation by generation, each of them until it is over,
//! and at last the key is gone. What an answer shows is compared with what was shown before: in an
//! answer that had come when the request was sent, or to a request ahead of it in the same sequence.

use super::Violation;
use super::life::Life;
use super::record::{Operation, What};
use super::steps::Steps;

/// Twice the generation, and one more once its lease or its cool-down is over.
type Stage = u64;

/// That of a key that is no more.
const GONE: Stage = Stage::MAX;

/// Checks the operations of one key.
pub(super) fn check(key: &[Operation], life: Life) -> Result<(), Violation> {
    check_by_clock(key, life)?;
    check_in_sequence(key, life)
}

fn check_by_clock(key: &[Operation], life: Life) -> Result<(), Violation> {
    let leases = key.iter().filter(|o| o.what == What::Lease && o.is_done());
    let begun = leases.filter_map(|o| Some((o.ended_ns, o.generation?)));
    let begun = Steps::new(begun);
    let reached = |o: &Operation| reached(o, begun.largest_until(o.invoked_ns), life);
    let answers = Steps::new(key.iter().filter_map(|o| Some((o.ended_ns, reached(o)?))));
    for operation in key {
        let Some(shown) = shown(operation) else { continue };
        let is_before = |o: &&Operation| o.ended_ns < operation.invoked_ns;
        let before = operation.invoked_ns.checked_sub(1).map(|time| answers.largest_until(time));
        if before > Some(shown)
            && let Some(first) = key.iter().filter(is_before).find(|o| reached(o) > Some(shown))
        {
            return Err(back(first, operation));
        }
    }
    Ok(())
}

fn check_in_sequence(key: &[Operation], life: Life) -> Result<(), Violation> {
    let mut key: Vec<_> = key.iter().filter(|o| o.turn.sequence > 0).collect();
    key.sort_by_key(|operation| operation.turn);
    for sequence in key.chunk_by(|a, b| a.turn.sequence == b.turn.sequence) {
        let mut latest: Option<(Stage, &Operation)> = None;
        // Requests for any key that follow one another may be served together, in any order.
        for group in sequence.chunk_by(|a, b| a.what == What::Lease && b.what == What::Lease) {
            if let Some((before, first)) = latest
                && let Some(later) = group.iter().find(|o| shown(o).is_some_and(|at| at < before))
            {
                return Err(back(first, later));
            }
            let begun = latest.map_or(0, |(stage, _)| stage / 2);
            let reached = group.iter().filter_map(|o| Some((reached(o, begun, life)?, *o)));
            latest = latest.into_iter().chain(reached).max_by_key(|(stage, _)| *stage);
        }
    }
    Ok(())
}

/// What a key had surely got to when this was answered. A lease of the generation `begun` had begun
/// before.
fn reached(operation: &Operation, begun: u64, life: Life) -> Option<Stage> {
    let over = |generation: u64| 2 * generation + generation % 2;
    match (operation.what, operation.status, operation.seen()) {
        (_, 404, _) => (operation.invoked_ns >= life.from_ns).then_some(GONE),
        (_, 409, _) => Some(over(begun)),
        (_, 412, _) => {
            let meant = operation.fence;
            meant.filter(|generation| *generation <= begun).map(over)
        }
        _ if !operation.is_done() => None,
        (What::Delete, ..) => Some(GONE),
        (What::Release, _, seen) => Some(over(seen.unwrap_or(begun))),
        (What::Look, _, Some(seen)) => Some(2 * seen + u64::from(!operation.is_blocked)),
        (_, _, seen) => seen.map(|generation| 2 * generation),
    }
}

/// What a key had not got past when this began, as far as its answer shows.
fn shown(operation: &Operation) -> Option<Stage> {
    if !operation.proves_life() {
        return None;
    }
    Some(match (operation.what, operation.seen()) {
        (What::Look, Some(seen)) => 2 * seen + u64::from(!operation.is_blocked),
        (_, Some(seen)) => 2 * seen + u64::from(seen.is_multiple_of(2)),
        (_, None) => GONE - 1,
    })
}

fn back(before: &Operation, after: &Operation) -> Violation {
    let rule = match before.what {
        What::Delete => "a key that was gone came back",
        _ if before.status == 404 => "a key that was gone came back",
        What::Release if before.is_done() => "a lease went on after its release",
        _ if before.is_done() && before.seen() > after.seen() => "a generation fell",
        _ => "what was over came back",
    };
    Violation::of(rule, &[before, after])
}
