//! Steps about what keys have of their own.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rand::RngExt;
use token_orchestrator::engine::{Creation, HolderCursor, NewKey, Terms};
use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, Holder, KeyId, Label, Value};

use super::same;
use super::steps::World;

/// One step. Values and labels have numbers.
#[derive(Clone, Debug)]
pub(crate) enum OwnStep {
    /// Creates a key.
    Import { value: Option<usize>, labels: Vec<usize> },
    /// Leases a key, perhaps with a label, perhaps for a holder.
    Lease { label: Option<usize>, holder: Option<usize>, ms: u32 },
    /// Leases several keys in the same way.
    LeaseGroup { label: Option<usize>, holder: Option<usize>, count: usize, ms: u32 },
    /// Takes back leases of a holder.
    TakeBack { holder: usize, limit: usize },
}

pub(crate) fn own_step() -> impl Strategy<Value = OwnStep> {
    let (label, holder, ms) = (0..4_usize, 0..3_usize, 1..300_u32);
    let terms = (option::of(label.clone()), option::of(holder.clone()), ms);
    prop_oneof![
        3 => (option::of(0..8_usize), vec(label.clone(), 0..4))
            .prop_map(|(value, labels)| OwnStep::Import { value, labels }),
        3 => terms.clone().prop_map(|(label, holder, ms)| OwnStep::Lease { label, holder, ms }),
        1 => (terms, 0..8_usize).prop_map(|((label, holder, ms), count)| {
            OwnStep::LeaseGroup { label, holder, count, ms }
        }),
        1 => (holder, 1..6_usize)
            .prop_map(|(holder, limit)| OwnStep::TakeBack { holder, limit }),
    ]
}

/// The value of this number: few and short, so that they meet and fill their room.
fn value(number: usize) -> Value {
    Value::new(&"v".repeat(number + 1)).expect("a short text")
}

/// The label of this number.
fn label(number: usize) -> Label {
    Label::new("n", &number.to_string()).expect("a short text")
}

impl World {
    pub(super) fn take_own(&mut self, step: &OwnStep) -> Result<(), String> {
        match step {
            OwnStep::Import { value: number, labels } => {
                let labels: Vec<_> = labels.iter().copied().map(label).collect();
                self.import(number.map(value).as_ref(), &labels)
            }
            OwnStep::Lease { label: number, holder, ms } => {
                let holder = holder.map(|number| self.holder(number));
                self.lease_with(number.map(label).as_ref(), holder.as_ref(), *ms)
            }
            OwnStep::LeaseGroup { label: number, holder, count, ms } => {
                let holder = holder.map(|number| self.holder(number));
                let (label, mut leases) = (number.map(label), Vec::new());
                let terms = Terms { lease_ms: *ms, label: label.as_ref(), holder: holder.as_ref() };
                self.pool.lease_group(self.now, terms, &mut self.rng, *count, &mut leases);
                same(&(leases.len() <= *count), &true)?;
                for lease in leases {
                    same(&self.free_with(label.as_ref()).contains(&lease.id), &true)?;
                    self.leased(lease, *ms, holder.as_ref())?;
                }
                Ok(())
            }
            OwnStep::TakeBack { holder, limit } => self.take_back(&self.holder(*holder), *limit),
        }
    }

    /// The holder of this number. The first two share a quota.
    fn holder(&self, number: usize) -> Holder {
        let quota = (number < 2).then(|| Arc::clone(&self.quota));
        Holder::new(&format!("worker-{number}"), quota).expect("a short name")
    }

    fn take_back(&mut self, holder: &Holder, limit: usize) -> Result<(), String> {
        let held = self.model.held_by(self.now, |other| other == holder);
        let (mut released, mut cursor) = (Vec::new(), HolderCursor::default());
        let (name, now) = (holder.name(), self.now);
        let looked = self.pool.release_all_of(name, now, limit, &mut cursor, &mut released);
        released.sort();
        same(&released.iter().all(|id| held.contains(id)), &true)?;
        if looked < limit {
            same(&released, &held)?;
        }
        let release = |id| self.model.release(id, self.now, Fence::Any, 0);
        same(&released.iter().try_for_each(release), &Ok(()))
    }

    /// How many leases count against the quota.
    fn held(&self) -> usize {
        self.model.held_by(self.now, |holder| holder.quota().is_some()).len()
    }

    fn free_with(&self, label: Option<&Label>) -> Vec<KeyId> {
        match label {
            Some(label) => self.model.free_with(label, self.now),
            None => self.model.free(self.now),
        }
    }

    fn import(&mut self, value: Option<&Value>, labels: &[Label]) -> Result<(), String> {
        let known = value.and_then(|value| self.model.key_with(value, self.now));
        let Ok(mut room) = self.pool.reserve(1, self.now) else {
            return same(&self.model.room(), &0);
        };
        let id = KeyId::from_random_bytes(self.rng.random());
        match room.create_with(id, self.now, NewKey { value, labels }) {
            Ok(Creation::New) => {
                same(&None, &known)?;
                let mut different: Vec<Label> = Vec::new();
                for label in labels {
                    if !different.contains(label) {
                        different.push(label.clone());
                    }
                }
                self.model.create_with(id, self.now, value.cloned(), different);
                self.created.push(id);
                Ok(())
            }
            Ok(Creation::Known(id)) => same(&Some(id), &known),
            Ok(Creation::IdTaken) => Err("a random id was taken".to_owned()),
            Err(error) => {
                same(&None, &known)?;
                drop(room);
                // The key that had the value may be dead, and removed for that.
                self.bury()?;
                let bytes = value.map_or(0, |value| value.reveal().len());
                let mut all_labels = self.model.labels();
                all_labels.extend(labels.iter().cloned());
                let is_true = match error {
                    Error::TooManyLabels => all_labels.len() > self.options.labels_max,
                    Error::ValuesFull => self.model.value_bytes() + bytes > self.value_bytes.max(),
                    _ => false,
                };
                same(&(error, is_true), &(error, true))
            }
        }
    }

    fn lease_with(
        &mut self,
        label: Option<&Label>,
        holder: Option<&Holder>,
        ms: u32,
    ) -> Result<(), String> {
        let (free, held) = (self.free_with(label), self.held());
        let has_quota = holder.is_some_and(|holder| holder.quota().is_some());
        let is_used_up = has_quota && held >= self.quota.max();
        let terms = Terms { lease_ms: ms, label, holder };
        match self.pool.lease(self.now, terms, &mut self.rng) {
            Err(Error::TooManyHeld) => same(&(is_used_up, self.quota.held()), &(true, held)),
            Err(error) => {
                same(&error, &Error::EXHAUSTED)?;
                same(&Vec::new(), &free)
            }
            Ok(lease) => {
                same(&(free.contains(&lease.id), is_used_up), &(true, false))?;
                self.leased(lease, ms, holder)
            }
        }
    }

    /// Values, labels and holders take as much room as the keys and the leases that there are.
    pub(super) fn check_own(&self) -> Result<(), String> {
        same(&self.value_bytes.held(), &self.model.value_bytes())?;
        same(&(self.model.labels().len() <= self.options.labels_max), &true)?;
        // Leases that are over count until somebody has noticed it.
        let (counted, held) = (self.quota.held(), self.held());
        same(&((held..=self.quota.max()).contains(&counted)), &true)
    }
}
