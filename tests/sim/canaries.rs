//! Canaries: each bug that can be planted must be caught by an attack, and no attack may cry wolf.
//! Run by `cargo test --features canary --test sim`.

use std::panic;

use token_orchestrator::engine::Bug;

use crate::{model_attack, uniform, waiting};

const SEED: u64 = 1;
const CASES: u32 = 2000;

/// What catches it.
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
}

impl Attack {
    fn report(self) -> Option<String> {
        let outcome = match self {
            Self::Inside => model_attack(SEED, CASES, true),
            Self::Outside => model_attack(SEED, CASES, false),
            Self::Waiting => waiting::attack(SEED, CASES),
            Self::Draw => uniform::attack(SEED),
        };
        outcome.err()
    }

    fn meant_for(bug: Bug) -> &'static [Self] {
        match bug {
            Bug::UnevenDraw | Bug::LateDartHits => &[Self::Draw],
            Bug::ReleaseWakesNobody => &[Self::Waiting],
            _ => &[Self::Inside, Self::Outside],
        }
    }
}

#[test]
fn each_planted_bug_is_caught() {
    for attack in [Attack::Inside, Attack::Outside, Attack::Waiting, Attack::Draw] {
        assert_eq!(attack.report(), None, "{attack:?} cries wolf");
    }
    // Some are caught by assertions of the pool's own.
    let told = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut reports = Vec::new();
    for bug in Bug::ALL {
        Bug::plant(Some(bug));
        let attacks = Attack::meant_for(bug).iter();
        reports.extend(attacks.map(|attack| (bug, attack, attack.report())));
    }
    Bug::plant(None);
    panic::set_hook(told);
    for (bug, attack, report) in reports {
        let report = report.unwrap_or_else(|| panic!("{bug:?} was not caught by {attack:?}"));
        println!("{bug:?}, by {attack:?}: {}", report.lines().next().unwrap_or_default());
    }
}
