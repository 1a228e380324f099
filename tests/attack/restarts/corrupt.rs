//! What a server does that has lost something at a restart: each such history must be found to be false.

use crate::checker::record::{Operation, Turn, What, ns};
use crate::history::SLACK_NS;
use crate::history::corrupt::{Corruption, Draft, Outage, is_lease, when};

/// The first time that the server was down after this was answered.
fn outage_after(draft: &Draft<'_>, one: &Operation) -> Option<Outage> {
    draft.outages.iter().find(|outage| outage.from_ns > one.ended_ns).copied()
}

/// Whether something of these kinds may have been done to the key from `from_ns` on, and before `until_ns`.
fn may_have(
    draft: &Draft<'_>,
    one: &Operation,
    kinds: &[What],
    from_ns: u64,
    until_ns: u64,
) -> bool {
    let is_one = |o: &Operation| kinds.contains(&o.what) && o.may_be_done();
    draft.of_key(one.key).any(|o| is_one(o) && o.ended_ns >= from_ns && o.invoked_ns <= until_ns)
}

/// Adds what is seen of the key at that time.
fn see(draft: &mut Draft<'_>, seen: Operation, at_ns: u64) {
    let turn = Turn::default();
    draft.operations.push(Operation { invoked_ns: at_ns, ended_ns: at_ns + 1, turn, ..seen });
}

/// A look at the key of an operation, at the generation of a lease, with its lease or without.
fn look(one: Operation, generation: Option<u64>, is_blocked: bool) -> Operation {
    Operation { what: What::Look, fence: None, ms: 0, status: 200, generation, is_blocked, ..one }
}

/// When a lease that was answered before the server was down goes on after that for sure, a time just after that.
fn still_leased(draft: &Draft<'_>, lease: &Operation) -> Option<u64> {
    let at = outage_after(draft, lease)?.until_ns + 1;
    when(at + 1 + SLACK_NS < lease.invoked_ns + lease.length_ns())?;
    let ends = [What::Release, What::Renew, What::Delete];
    when(!may_have(draft, lease, &ends, lease.invoked_ns, at + 1))?;
    Some(at)
}

pub(super) const CORRUPTIONS: &[Corruption] = &[
    Corruption {
        name: "a lease is forgotten at a restart, and the key leased once more",
        fits: is_lease,
        apply: |draft, one| {
            let at = still_leased(draft, &one)?;
            let generation = one.generation.map(|generation| generation + 2);
            see(draft, Operation { generation, ..one }, at);
            Some(())
        },
    },
    Corruption {
        name: "a lease is forgotten at a restart, and the key shown as free",
        fits: is_lease,
        apply: |draft, one| {
            let at = still_leased(draft, &one)?;
            let generation = one.generation.map(|generation| generation + 1);
            see(draft, look(one, generation, false), at);
            Some(())
        },
    },
    Corruption {
        name: "a lease is forgotten at a restart, and cannot be renewed",
        fits: is_lease,
        apply: |draft, one| {
            let at = still_leased(draft, &one)?;
            let renewal = look(one, None, false);
            let (what, fence) = (What::Renew, one.generation);
            see(draft, Operation { what, fence, ms: 1, status: 412, ..renewal }, at);
            Some(())
        },
    },
    Corruption {
        name: "a fence is given again after a restart",
        fits: is_lease,
        apply: |draft, one| {
            let outage = outage_after(draft, &one)?;
            let again = draft.another_lease(|later| later.invoked_ns > outage.until_ns)?;
            draft.operations[again].key = one.key;
            draft.operations[again].generation = one.generation;
            Some(())
        },
    },
    Corruption {
        name: "a key is lost at a restart",
        fits: |one| matches!(one.what, What::Create | What::KeepAlive) && one.is_done(),
        apply: |draft, one| {
            let at = outage_after(draft, &one)?.until_ns + 1;
            when(at + 1 + SLACK_NS < one.invoked_ns + draft.ttl_ns)?;
            when(!may_have(draft, &one, &[What::Delete], 0, at + 1))?;
            see(draft, Operation { status: 404, ..look(one, None, false) }, at);
            Some(())
        },
    },
    Corruption {
        name: "a release is forgotten at a restart",
        fits: |one| one.what == What::Release && one.is_done() && one.fence.is_some(),
        apply: |draft, one| {
            let at = outage_after(draft, &one)?.until_ns + 1;
            when(one.fence.is_some_and(|fence| fence % 2 == 1))?;
            see(draft, look(one, one.fence, true), at);
            Some(())
        },
    },
    Corruption {
        name: "a deletion is forgotten at a restart",
        fits: |one| one.what == What::Delete && one.is_done(),
        apply: |draft, one| {
            let at = outage_after(draft, &one)?.until_ns + 1;
            see(draft, look(one, Some(1_000_000), false), at);
            Some(())
        },
    },
    Corruption {
        name: "a lease lasts longer, as the time while the server was down does not count",
        fits: is_lease,
        apply: |draft, one| {
            let Outage { from_ns, until_ns } = outage_after(draft, &one)?;
            let end = one.ended_ns + one.length_ns();
            when(end > from_ns && !may_have(draft, &one, &[What::Renew], 0, u64::MAX))?;
            let at = (end + SLACK_NS + 1).max(until_ns + 1);
            when(at < one.invoked_ns + one.length_ns() + until_ns - from_ns + ns(5))?;
            see(draft, look(one, one.generation, true), at);
            Some(())
        },
    },
    Corruption {
        name: "a key lives longer, as the time while the server was down does not count",
        fits: |one| one.what == What::Create && one.is_done(),
        apply: |draft, one| {
            let Outage { until_ns, .. } = outage_after(draft, &one)?;
            let begins = |o: &&Operation| {
                matches!(o.what, What::Create | What::KeepAlive) && o.may_be_done()
            };
            let last = draft.of_key(one.key).filter(begins).map(|o| o.ended_ns).max()?;
            let at = (last + draft.ttl_ns + SLACK_NS + 1).max(until_ns + 1);
            see(draft, look(one, Some(1_000_000), false), at);
            Some(())
        },
    },
];
