//! The checker finds what it should, and nothing else: small histories made by hand, each with a
//! harmless variant. Times are milliseconds; keys live for 1000, and leases last 100.

use uuid::Uuid;

use super::SLACK_NS;
use crate::checker::check;
use crate::checker::record::{History, LOST, NEVER, Operation, Turn, What};

const KEY: Uuid = Uuid::from_u128(7);

/// An operation on the key that was done.
fn did(what: What, from: u64, to: u64) -> Operation {
    let (status, ms) = match what {
        What::Create => (201, 0),
        What::Lease | What::Renew => (200, 100),
        _ => (200, 0),
    };
    let (fence, generation, is_blocked) = (None, None, false);
    let (invoked_ns, ended_ns) = (from * 1_000_000, to * 1_000_000);
    Operation {
        what,
        key: KEY,
        invoked_ns,
        ended_ns,
        fence,
        ms,
        status,
        generation,
        is_blocked,
        turn: Turn::default(),
    }
}

fn created() -> Operation {
    did(What::Create, 0, 1)
}

fn leased(from: u64, to: u64, generation: u64) -> Operation {
    Operation { generation: Some(generation), ..did(What::Lease, from, to) }
}

fn renewed(from: u64, to: u64, generation: u64) -> Operation {
    Operation {
        generation: Some(generation),
        fence: Some(generation),
        ..did(What::Renew, from, to)
    }
}

fn released(from: u64, to: u64) -> Operation {
    did(What::Release, from, to)
}

fn free(from: u64, to: u64, generation: u64) -> Operation {
    Operation { generation: Some(generation), ..did(What::Look, from, to) }
}

fn blocked(from: u64, to: u64, generation: u64) -> Operation {
    Operation { is_blocked: true, ..free(from, to, generation) }
}

/// A request for any key, with the answer that none is free.
fn exhausted(from: u64, to: u64) -> Operation {
    Operation { key: Uuid::nil(), ..with_status(404, did(What::Lease, from, to)) }
}

fn with_status(status: u16, operation: Operation) -> Operation {
    Operation { status, generation: None, ..operation }
}

fn fenced(fence: u64, operation: Operation) -> Operation {
    Operation { fence: Some(fence), ..operation }
}

fn lasting(ms: u32, operation: Operation) -> Operation {
    Operation { ms, ..operation }
}

/// The same with an answer that was lost, and perhaps still to come.
fn lost(operation: Operation) -> Operation {
    Operation { ended_ns: NEVER, ..with_status(LOST, operation) }
}

/// The same as a sequence of requests that were sent at once.
fn at_once<const N: usize>(operations: [Operation; N]) -> [Operation; N] {
    let mut place = 0;
    operations.map(|operation| {
        place += 1;
        Operation { turn: Turn { sequence: 1, place }, ..operation }
    })
}

/// What is wrong with a history that begins with a creation.
fn verdict(operations: &[Operation]) -> Option<&'static str> {
    verdict_of([&[created()], operations].concat())
}

fn verdict_of(operations: Vec<Operation>) -> Option<&'static str> {
    check(&History { key_ttl_ms: 1000, slack_ns: SLACK_NS, operations, has_labels: false })
        .err()
        .map(|violation| violation.rule)
}

#[test]
fn overlapping_leases_are_found() {
    let (first, second) = (leased(2, 3, 1), leased(50, 51, 3));
    let overlap = Some("two leases overlap");
    assert_eq!(verdict(&[first, second]), overlap);
    assert_eq!(verdict(&[first, second, lost(released(20, 21))]), None);
    assert_eq!(verdict(&[first, second, released(20, 21)]), None);
    assert_eq!(verdict(&[first, second, fenced(1, released(20, 51))]), None);
    // Of another lease, refused, before the lease, or after the other.
    assert_eq!(verdict(&[first, second, lost(fenced(3, released(20, 21)))]), overlap);
    assert_eq!(verdict(&[first, second, with_status(412, fenced(5, released(20, 21)))]), overlap);
    assert_eq!(verdict(&[first, second, released(1, 1)]), overlap);
    assert_eq!(verdict(&[first, second, released(52, 53)]), overlap);
}

#[test]
fn a_lease_may_begin_once_the_previous_one_has_run_out() {
    let first = leased(10, 11, 1);
    assert_eq!(verdict(&[first, leased(50, 110, 3)]), None);
    assert_eq!(verdict(&[first, leased(50, 107, 3)]), Some("two leases overlap"));
}

#[test]
fn a_renewed_lease_lasts_until_its_new_end() {
    let (first, renewal, second) = (leased(2, 3, 1), renewed(50, 51, 1), leased(120, 121, 3));
    assert_eq!(verdict(&[first, renewal, second]), Some("two leases overlap"));
    assert_eq!(verdict(&[first, lost(renewal), second]), None);
    assert_eq!(verdict(&[first, renewal, leased(120, 150, 3)]), None);
    // It may cut the lease short, and another one may come later.
    let short = lasting(10, renewed(50, 51, 1));
    assert_eq!(verdict(&[first, short, leased(59, 60, 3)]), None);
    assert_eq!(verdict(&[first, lost(short), leased(59, 60, 3)]), None);
    assert_eq!(
        verdict(&[first, short, renewed(52, 53, 1), leased(61, 62, 3)]),
        Some("two leases overlap")
    );
}

#[test]
fn evidence_of_a_lease_that_ended_early_is_found() {
    let lease = leased(2, 3, 1);
    let early = Some("a lease ended early");
    for evidence in [
        free(50, 51, 2),
        with_status(412, fenced(1, released(50, 51))),
        with_status(409, did(What::Renew, 50, 51)),
    ] {
        assert_eq!(verdict(&[lease, evidence]), early, "{evidence}");
        assert_eq!(verdict(&[lease, evidence, lost(released(20, 21))]), None, "{evidence}");
        let late = Operation { ended_ns: 102_000_000, ..evidence };
        assert_eq!(verdict(&[lease, late]), None, "{late}");
    }
    // Before the lease was known it may not have begun.
    assert_eq!(verdict(&[leased(2, 60, 1), with_status(409, did(What::Renew, 50, 51))]), None);
}

#[test]
fn evidence_of_a_lease_that_ended_late_is_found() {
    let lease = leased(2, 3, 1);
    for at in [
        |from| blocked(from, 200, 1),
        |from| fenced(1, released(from, 200)),
        |from| renewed(from, 200, 1),
        |from| fenced(1, did(What::Delete, from, 200)),
    ] {
        assert_eq!(verdict(&[lease, at(106)]), Some("a lease ended late"), "{}", at(106));
        assert_eq!(verdict(&[lease, at(105)]), None, "{}", at(105));
        assert_eq!(verdict(&[lease, at(106), lost(renewed(50, 51, 1))]), None, "{}", at(106));
        assert_eq!(verdict(&[lease, at(106), renewed(50, 51, 1)]), None, "{}", at(106));
    }
}

#[test]
fn a_lease_that_was_cut_short_by_a_renewal_ends_then() {
    let (lease, short) = (leased(2, 3, 1), lasting(10, renewed(20, 21, 1)));
    assert_eq!(verdict(&[lease, short, blocked(50, 51, 1)]), Some("a lease ended late"));
    assert_eq!(verdict(&[lease, lost(short), blocked(50, 51, 1)]), None);
    assert_eq!(verdict(&[lease, short, blocked(30, 31, 1)]), None);
}

#[test]
fn a_released_lease_stays_ended() {
    let (lease, release) = (leased(2, 3, 1), fenced(1, released(10, 11)));
    let went_on = Some("a lease went on after its release");
    assert_eq!(verdict(&[lease, release, blocked(12, 13, 1)]), went_on);
    assert_eq!(verdict(&[lease, released(10, 11), blocked(12, 13, 1)]), went_on);
    assert_eq!(verdict(&[lease, release, blocked(11, 13, 1)]), None);
    assert_eq!(verdict(&[lease, lost(release), blocked(12, 13, 1)]), None);
    // This one may have come before the lease.
    assert_eq!(verdict(&[lease, released(2, 11), blocked(12, 13, 1)]), None);
    let twice = fenced(1, released(11, 13));
    assert_eq!(verdict(&[lease, release, twice]), Some("a lease was ended twice"));
    assert_eq!(verdict(&[lease, release, with_status(412, twice)]), None);
}

#[test]
fn generations_differ_and_only_rise() {
    let release = released(10, 11);
    let (first, second) = (leased(2, 3, 1), leased(20, 21, 3));
    assert_eq!(verdict(&[first, release, second]), None);
    let same = leased(20, 21, 1);
    assert_eq!(verdict(&[first, release, same]), Some("two leases have one generation"));
    let even = leased(20, 21, 2);
    assert_eq!(verdict(&[even]), Some("a lease has no odd generation"));
    assert_eq!(verdict(&[first, release, second, free(22, 23, 2)]), Some("a generation fell"));
    assert_eq!(verdict(&[first, release, second, free(21, 23, 2)]), None);
    // It was released and leased once more, unseen.
    assert_eq!(verdict(&[first, release, leased(20, 21, 5)]), None);
    let shown = free(4, 5, 1);
    assert_eq!(verdict(&[first, shown]), Some("a leased key is shown as free"));
    assert_eq!(verdict(&[first, blocked(4, 5, 1)]), None);
}

#[test]
fn a_lease_that_is_over_does_not_come_back() {
    // All that is sent at once is under way for so long that the clocks show no order.
    let (lease, back) = (leased(2, 3, 1), Some("what was over came back"));
    let (renewal, late) = (renewed(100, 120, 1), with_status(412, renewed(100, 120, 1)));
    let refused = with_status(409, did(What::Renew, 100, 120));
    let (over, on) = (free(100, 120, 2), blocked(100, 120, 1));
    for ended in [late, refused] {
        for goes_on in [renewal, on, fenced(1, released(100, 120))] {
            assert_eq!(verdict(&[&[lease][..], &at_once([on, ended])].concat()), None, "{ended}");
            let history = [&[lease][..], &at_once([on, ended, goes_on])].concat();
            assert_eq!(verdict(&history), back, "{ended}, {goes_on}");
            // That of a renewal would last on.
            if goes_on != renewal {
                assert_eq!(verdict(&[lease, on, ended, goes_on]), None, "{ended}, {goes_on}");
            }
        }
    }
    assert_eq!(verdict(&[&[lease][..], &at_once([over, on])].concat()), Some("a generation fell"));
    assert_eq!(verdict(&[&[lease][..], &at_once([on, over])].concat()), None);
    assert_eq!(verdict(&[lease, over, on]), None);
    // By the clock, whichever client sees it.
    let ended = with_status(412, renewed(95, 103, 1));
    assert_eq!(verdict(&[lease, ended, blocked(104, 105, 1)]), back);
    assert_eq!(verdict(&[lease, ended, blocked(103, 105, 1)]), None);
    // A request that was meant for a later lease shows nothing of this one.
    let early = with_status(412, fenced(3, released(100, 120)));
    assert_eq!(verdict(&[&[lease][..], &at_once([early, on])].concat()), None);
    // Leases that were asked for at once are served in any order.
    let (first, second) = (leased(100, 320, 3), leased(100, 320, 5));
    assert_eq!(verdict(&[&[lease][..], &at_once([second, first])].concat()), None);
}

#[test]
fn a_cool_down_that_is_over_does_not_come_back() {
    let rest = lasting(50, fenced(1, released(10, 11)));
    let longer = lasting(50, released(55, 56));
    let (resting, free) = (blocked(55, 70, 2), free(55, 70, 2));
    let history = |last: [Operation; 2]| [&[leased(2, 3, 1), rest, longer][..], &last].concat();
    assert_eq!(verdict(&history(at_once([resting, free]))), None);
    assert_eq!(verdict(&history([free, resting])), None);
    assert_eq!(verdict(&history(at_once([free, resting]))), Some("what was over came back"));
}

#[test]
fn a_cool_down_lasts_as_long_as_requested() {
    let (lease, rest) = (leased(2, 3, 1), lasting(50, fenced(1, released(10, 11))));
    let early = Some("a cool-down ended early");
    for evidence in [free(30, 31, 2), leased(30, 31, 3)] {
        assert_eq!(verdict(&[lease, rest, evidence]), early, "{evidence}");
        assert_eq!(verdict(&[lease, rest, evidence, lost(released(12, 13))]), None, "{evidence}");
        let longer = lost(lasting(90, released(12, 13)));
        assert_eq!(verdict(&[lease, rest, evidence, longer]), early, "{evidence}");
        let late = Operation { ended_ns: 60_000_000, ..evidence };
        assert_eq!(verdict(&[lease, rest, late]), None, "{late}");
    }
    let late = Some("a cool-down ended late, or never began");
    assert_eq!(verdict(&[lease, rest, blocked(64, 65, 2)]), late);
    assert_eq!(verdict(&[lease, rest, blocked(63, 65, 2)]), None);
    assert_eq!(verdict(&[lease, released(10, 11), blocked(20, 21, 2)]), late);
    assert_eq!(verdict(&[lost(lasting(50, released(10, 11))), blocked(64, 65, 2)]), None);
}

#[test]
fn a_key_that_is_gone_stays_gone() {
    let deletion = did(What::Delete, 10, 11);
    let missing = with_status(404, did(What::Look, 10, 11));
    let back = Some("a key that was gone came back");
    for alive in [leased(12, 13, 1), did(What::KeepAlive, 12, 13), free(12, 13, 0)] {
        assert_eq!(verdict(&[deletion, alive]), back, "{alive}");
        assert_eq!(verdict(&[lost(deletion), alive]), None, "{alive}");
        let meanwhile = Operation { invoked_ns: 11_000_000, ..alive };
        assert_eq!(verdict(&[deletion, meanwhile]), None, "{alive}");
        assert_eq!(verdict(&[missing, alive, lost(deletion)]), back, "{alive}");
        // Sent at once, it is the order that counts.
        let [missing, alive] = [missing, alive].map(|o| Operation { ended_ns: 13_000_000, ..o });
        let [missing, alive] = [missing, alive].map(|o| Operation { invoked_ns: 10_000_000, ..o });
        let with_deletion = |last: [Operation; 2]| [&[lost(deletion)][..], &last].concat();
        assert_eq!(verdict(&with_deletion(at_once([missing, alive]))), back, "{alive}");
        assert_eq!(verdict(&with_deletion(at_once([alive, missing]))), None, "{alive}");
        assert_eq!(verdict(&with_deletion([missing, alive])), None, "{alive}");
    }
    let again = did(What::Delete, 11, 12);
    assert_eq!(verdict(&[deletion, again]), Some("a key was deleted twice"));
    assert_eq!(verdict(&[deletion, with_status(404, again)]), None);
}

#[test]
fn a_key_lives_until_its_time_is_over() {
    let missing = with_status(404, did(What::Look, 990, 997));
    let lost_key = Some("a key was lost before its time");
    assert_eq!(verdict(&[missing]), lost_key);
    assert_eq!(verdict(&[Operation { ended_ns: 998_000_000, ..missing }]), None);
    assert_eq!(verdict(&[missing, lost(did(What::Delete, 990, 991))]), None);
    assert_eq!(verdict(&[missing, did(What::Delete, 990, 991)]), None);
    assert_eq!(verdict(&[missing, lost(did(What::Delete, 998, 999))]), lost_key);
    // This one was before the key was last seen.
    let deletion = Operation { ended_ns: 5_000_000, ..lost(did(What::Delete, 4, 5)) };
    assert_eq!(verdict(&[missing, deletion, free(6, 7, 0)]), lost_key);
    // It asked before the key was created.
    assert_eq!(verdict(&[Operation { invoked_ns: 0, ..missing }]), None);
    let kept = did(What::KeepAlive, 500, 501);
    let later = with_status(404, did(What::Look, 1490, 1497));
    assert_eq!(verdict(&[kept, later]), lost_key);
    assert_eq!(verdict(&[lost(kept), later]), None);
}

#[test]
fn a_key_lives_no_longer_than_its_time() {
    for alive in
        [leased(1004, 1005, 1), free(1004, 1005, 0), with_status(409, did(What::Renew, 1004, 1005))]
    {
        let dead = Some("a dead key was shown or served");
        assert_eq!(verdict(&[alive]), dead, "{alive}");
        assert_eq!(verdict(&[Operation { invoked_ns: 1_003_000_000, ..alive }]), None, "{alive}");
        assert_eq!(verdict(&[alive, did(What::KeepAlive, 500, 501)]), None, "{alive}");
        assert_eq!(verdict(&[alive, lost(did(What::KeepAlive, 500, 501))]), None, "{alive}");
        let refused = with_status(404, did(What::KeepAlive, 1001, 1002));
        assert_eq!(verdict(&[alive, refused]), dead, "{alive}");
    }
    let revived = did(What::KeepAlive, 1004, 1005);
    assert_eq!(verdict(&[revived]), Some("a dead key was kept alive"));
    // Nor by one that came too late to be done.
    let tries = [lost(revived), free(1006, 1007, 0)];
    assert_eq!(verdict(&tries), Some("a dead key was shown or served"));
}

#[test]
fn each_key_was_created_once() {
    assert_eq!(verdict(&[created()]), Some("a key was created twice"));
    let lease = leased(10, 11, 1);
    assert_eq!(verdict_of(vec![lease]), Some("a key that was never created"));
    let creation = |from, to| Operation { key: Uuid::nil(), ..lost(did(What::Create, from, to)) };
    assert_eq!(verdict_of(vec![creation(5, 6), lease]), None);
    assert_eq!(verdict_of(vec![creation(12, 13), lease]), Some("a key that was never created"));
}

#[test]
fn a_key_that_is_free_is_served() {
    let unserved = Some("a free key was not served");
    let (none, seen) = (exhausted(10, 11), free(20, 21, 0));
    assert_eq!(verdict(&[none, seen]), unserved);
    assert_eq!(verdict(&[none, leased(12, 13, 1)]), unserved);
    // It may be gone, about to be leased, or not be there yet.
    assert_eq!(verdict(&[none]), None);
    assert_eq!(verdict(&[none, lost(did(What::Delete, 5, 6))]), None);
    assert_eq!(verdict(&[none, leased(11, 30, 1), seen]), None);
    assert_eq!(
        verdict(&[none, seen, Operation { key: Uuid::nil(), ..lost(leased(5, 6, 1)) }]),
        None
    );
    assert_eq!(verdict(&[exhausted(1, 11), seen]), unserved);
    assert_eq!(verdict(&[exhausted(0, 11), seen]), None);
    assert_eq!(verdict(&[exhausted(999, 1001), free(1002, 1003, 0)]), None);
}

#[test]
fn a_key_is_free_again_after_its_lease() {
    let unserved = Some("a free key was not served");
    let (first, second) = (leased(2, 3, 1), leased(300, 301, 3));
    let none = exhausted(50, 51);
    assert_eq!(verdict(&[first, none, second]), None);
    assert_eq!(verdict(&[first, none, second, released(10, 11)]), unserved);
    assert_eq!(verdict(&[first, none, second, lost(released(10, 11))]), None);
    assert_eq!(verdict(&[first, exhausted(106, 107), second]), unserved);
    assert_eq!(verdict(&[first, exhausted(104, 107), second]), None);
    let rest = lasting(50, fenced(1, released(10, 11)));
    assert_eq!(verdict(&[first, rest, exhausted(50, 51), second]), None);
    assert_eq!(verdict(&[first, rest, exhausted(64, 65), second]), unserved);
    // It may have been leased in between, or rested.
    assert_eq!(verdict(&[first, exhausted(106, 107), leased(300, 301, 5)]), None);
    assert_eq!(
        verdict(&[first, exhausted(106, 107), lost(lasting(20, released(90, 91))), second]),
        None
    );
}
