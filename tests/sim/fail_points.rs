//! Each fail point must be caught by an attack, and no attack may find fault without one.

use std::panic;

use token_orchestrator::engine::fail_point::FailPoint;

use super::{Tries, copies, damage, durable, model_attack, uniform, waiting, walks};

/// It is enough that a fail point is caught: the steps need not be the shortest.
const TRIES: Tries = Tries { seed: 1, cases: 2000, shrinks: false };

/// What catches a fail point.
#[derive(Clone, Copy, Debug)]
enum Attack {
    /// The model, with a look at the pool's invariants after each step.
    Inside,
    /// The model, by what the pool answers alone.
    Outside,
    /// The model of the queue.
    Waiting,
    /// Many draws.
    Draw,
    /// Walks over all keys.
    Walk,
    /// A disk that loses what was not flushed.
    Crash,
    /// A disk that changes what it has.
    Damage,
    /// A directory that is copied while it is used.
    Copy,
}

impl Attack {
    const ALL: [Self; 8] = [
        Self::Inside,
        Self::Outside,
        Self::Waiting,
        Self::Draw,
        Self::Walk,
        Self::Crash,
        Self::Damage,
        Self::Copy,
    ];

    fn report(self) -> Option<String> {
        let outcome = match self {
            Self::Crash => durable::attack(TRIES).map(|_| 0),
            Self::Damage => damage::attack(TRIES.seed, 300).map(|_| 0),
            Self::Copy => copies::attack(TRIES.seed, 3000).map(|_| 0),
            Self::Inside => model_attack(TRIES, true),
            Self::Outside => model_attack(TRIES, false),
            Self::Waiting => waiting::attack(TRIES),
            Self::Draw => uniform::attack(TRIES.seed),
            Self::Walk => walks::attack(Tries { cases: 300, ..TRIES }),
        };
        outcome.err()
    }

    fn meant_for(point: FailPoint) -> &'static [Self] {
        match point {
            FailPoint::UnevenDraw
            | FailPoint::LateSampleHits
            | FailPoint::OneStripeOnly
            | FailPoint::UnevenHalves => &[Self::Draw],
            FailPoint::ReleaseServesNobody => &[Self::Waiting],
            FailPoint::WalkSkipsBucket | FailPoint::WalkLooksBack => &[Self::Walk],
            FailPoint::AnswerBeforeCommit
            | FailPoint::NamesNotSynced
            | FailPoint::TornEndAccepted
            | FailPoint::RecordsOutOfOrder
            | FailPoint::SnapshotMissesChanges
            | FailPoint::SnapshotPublishedEarly
            | FailPoint::GenerationsNotReserved => &[Self::Crash],
            FailPoint::DamageCutOff => &[Self::Damage],
            FailPoint::CopyOpensSnapshotLast => &[Self::Copy],
            // It only lets memory grow.
            FailPoint::StaleHintOfLabelNotCounted => &[Self::Inside],
            _ => &[Self::Inside, Self::Outside],
        }
    }
}

#[test]
fn each_fail_point_is_caught() {
    for attack in Attack::ALL {
        assert_eq!(attack.report(), None, "{attack:?} finds fault without one");
    }
    // Some are caught by assertions of the pool's own.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut reports = Vec::new();
    for point in FailPoint::ALL {
        FailPoint::switch_on(Some(point));
        let attacks = Attack::meant_for(point).iter();
        reports.extend(attacks.map(|attack| (point, attack, attack.report())));
    }
    FailPoint::switch_on(None);
    panic::set_hook(hook);
    for (point, attack, report) in reports {
        let report = report.unwrap_or_else(|| panic!("{point:?} was not caught by {attack:?}"));
        println!("{point:?}, by {attack:?}: {}", report.lines().next().unwrap_or_default());
    }
}
