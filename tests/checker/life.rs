//! Whether a key lived when it had to, and only then.

use super::record::{History, NEVER, Operation, What, ns};
use super::{Found, Violation, is_creation};

/// When a key lived for sure.
#[derive(Clone, Copy)]
pub(super) struct Life {
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
}

/// Checks what the operations of one key, sorted by their beginning, show of its life. `keyless`
/// are those of no known key. `None` if it was never seen to live.
pub(super) fn check(
    key: &[Operation],
    keyless: &[Operation],
    history: &History,
    found: &mut Found,
) -> Result<Option<Life>, Violation> {
    let (ttl_ns, slack_ns) = (ns(history.key_ttl_ms), history.slack_ns);
    let alive = || key.iter().filter(|operation| operation.proves_life());
    let Some(last_alive) = alive().next_back() else { return Ok(None) };
    let mut creations = key.iter().filter(|operation| is_creation(operation));
    let creation = creations.next();
    if let (Some(one), Some(other)) = (creation, creations.next()) {
        return Err(Violation::of("a key was created twice", &[one, other]));
    }
    let first_seen = alive().min_by_key(|operation| operation.ended_ns).unwrap_or(last_alive);
    let born = match creation {
        Some(creation) => creation.ended_ns,
        None => born_unseen(first_seen, keyless)?,
    };
    check_end(key, born, ttl_ns, slack_ns)?;

    let extensions =
        key.iter().filter(|o| matches!(o.what, What::Create | What::KeepAlive) && o.is_done());
    let extension = extensions.max_by_key(|extension| extension.invoked_ns);
    let first_end = extension.map_or(0, |extension| extension.invoked_ns + ttl_ns);
    let surely_from = creation.map_or(first_seen.ended_ns, |creation| creation.ended_ns);
    let is_end = |operation: &&Operation| {
        let is_missing = operation.status == 404 && operation.invoked_ns >= surely_from;
        is_missing || (operation.what == What::Delete && operation.is_done())
    };
    let deletions = || key.iter().filter(|o| o.what == What::Delete && o.may_be_done());
    let mut done = deletions().filter(|deletion| deletion.is_done());
    if let (Some(one), Some(other)) = (done.next(), done.next()) {
        return Err(Violation::of("a key was deleted twice", &[one, other]));
    }
    found.deletions += deletions().filter(|deletion| deletion.is_done()).count();
    let deletion = deletions()
        .filter(|deletion| deletion.ended_ns >= last_alive.invoked_ns || deletion.is_done())
        .min_by_key(|deletion| deletion.invoked_ns);
    if let Some(gone) = key.iter().filter(is_end).min_by_key(|operation| operation.ended_ns) {
        let is_deleted = deletion.is_some_and(|deletion| deletion.invoked_ns <= gone.ended_ns);
        if !is_deleted && gone.ended_ns + slack_ns < first_end {
            let operations: Vec<_> = extension.into_iter().chain([gone]).collect();
            return Err(Violation::of("a key was lost before its time", &operations));
        }
        found.deaths += usize::from(!is_deleted);
    }
    let until_ns = first_end.saturating_sub(slack_ns);
    let until_ns = deletion.map_or(until_ns, |deletion| deletion.invoked_ns.min(until_ns));
    Ok(Some(Life { from_ns: surely_from, until_ns }))
}

/// When a key was created at the latest, if no answer showed it.
fn born_unseen(first_seen: &Operation, keyless: &[Operation]) -> Result<u64, Violation> {
    let began = |o: &&Operation| is_creation(o) && o.invoked_ns <= first_seen.ended_ns;
    let possible = keyless.iter().filter(|o| o.is_lost()).filter(began);
    let born = possible.map(|creation| creation.ended_ns).max();
    born.ok_or_else(|| Violation::of("a key that was never created", &[first_seen]))
}

/// Nothing shows the key, serves it, or keeps it alive, when it must be dead.
fn check_end(key: &[Operation], born: u64, ttl_ns: u64, slack_ns: u64) -> Result<(), Violation> {
    let mut last = None;
    let mut end = born.saturating_add(ttl_ns);
    // Each keep-alive that may still come moves the end by one life at most.
    let mut end_moves = 0_u64;
    let late =
        |operation: &Operation, end: u64| operation.invoked_ns > end.saturating_add(slack_ns);
    for keep_alive in key.iter().filter(|o| o.what == What::KeepAlive && o.may_be_done()) {
        if late(keep_alive, end.saturating_add(end_moves)) {
            if keep_alive.is_done() {
                return Err(Violation::of("a dead key was kept alive", &[keep_alive]));
            }
        } else if keep_alive.ended_ns == NEVER {
            end_moves += ttl_ns;
        } else {
            end = end.max(keep_alive.ended_ns + ttl_ns);
            last = Some(keep_alive);
        }
    }
    let end = end.saturating_add(end_moves);
    let shown = key.iter().filter(|o| o.proves_life()).find(|o| late(o, end));
    shown.map_or(Ok(()), |shown| {
        let operations = [last, Some(shown)];
        let operations: Vec<_> = operations.into_iter().flatten().collect();
        Err(Violation::of("a dead key was shown or served", &operations))
    })
}
