//! Which faults, on whom, from when until when: pure, drawn from random numbers, so that the same seed gives the same plan.

use std::fmt;

use rand::seq::IndexedRandom;
use rand::Rng;

use crate::cluster::name;

/// Before the first fault, for the traffic to be seen without any.
const FIRST_MILLIS: u64 = 1500;
/// Between the beginnings of two faults: shorter than most of them last, so that they meet.
const BETWEEN_MILLIS: std::ops::Range<u64> = 800..3500;
/// Of faults on nodes and their links, so many at once; loss and delay come on top.
const AT_ONCE: usize = 2;
/// Between two faults of the same node's process, or of its links: for it to come back.
const REST_MILLIS: u64 = 2500;
/// Draws for one place in the plan before it stays empty.
const DRAWS: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Kill,
    Terminate,
    Pause,
    Wipe,
    Partition,
    Mute,
    Deaf,
    PacketLoss,
    SlowLine,
    Resets,
}

/// What a fault takes hold of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Process,
    Links,
    AllLinks,
    AllDelays,
}

impl Hold {
    /// Of no node in particular.
    fn is_of_all(self) -> bool {
        matches!(self, Hold::AllLinks | Hold::AllDelays)
    }
}

impl Kind {
    /// Each with its weight.
    const ALL: [(Kind, u32); 10] = [
        (Kind::Kill, 4),
        (Kind::Terminate, 2),
        (Kind::Pause, 3),
        (Kind::Wipe, 1),
        (Kind::Partition, 4),
        (Kind::Mute, 2),
        (Kind::Deaf, 2),
        (Kind::PacketLoss, 2),
        (Kind::SlowLine, 2),
        (Kind::Resets, 3),
    ];

    fn hold(self) -> Hold {
        match self {
            Kind::Kill | Kind::Terminate | Kind::Pause | Kind::Wipe => Hold::Process,
            Kind::Partition | Kind::Mute | Kind::Deaf | Kind::Resets => Hold::Links,
            Kind::PacketLoss => Hold::AllLinks,
            Kind::SlowLine => Hold::AllDelays,
        }
    }

    fn lasts_millis(self) -> std::ops::Range<u64> {
        match self {
            Kind::Kill | Kind::Wipe => 500..4000,
            Kind::Terminate => 200..2000,
            Kind::Pause => 1500..7000,
            Kind::Partition | Kind::Mute | Kind::Deaf => 2500..9000,
            Kind::PacketLoss => 4000..12_000,
            Kind::SlowLine => 3000..8000,
            // One at its beginning and one at its end.
            Kind::Resets => 500..3000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub kind: Kind,
    pub node: usize,
    pub from_millis: u64,
    pub until_millis: u64,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, until) = (self.from_millis as f64 / 1e3, self.until_millis as f64 / 1e3);
        let whom = if self.kind.hold().is_of_all() { "all".to_owned() } else { name(self.node) };
        write!(f, "{from:5.1} s – {until:5.1} s  {whom:4} {:?}", self.kind)
    }
}

/// A plan of so many seconds, in the order of beginnings; all faults have ended by then.
pub fn compose(rng: &mut impl Rng, seconds: u64, nodes: usize) -> Vec<Step> {
    let end = seconds * 1000;
    let mut steps: Vec<Step> = Vec::new();
    let mut at = FIRST_MILLIS;
    while at < end {
        let drawn = (0..DRAWS).map(|_| draw(rng, at, end, nodes));
        // All draws are made whatever becomes of them: the plan's further course does not hang on one place.
        let drawn: Vec<Step> = drawn.collect();
        steps.extend(drawn.into_iter().find(|step| fits(&steps, step)));
        at += rng.random_range(BETWEEN_MILLIS);
    }
    steps
}

fn draw(rng: &mut impl Rng, at: u64, end: u64, nodes: usize) -> Step {
    let kind = Kind::ALL.choose_weighted(rng, |(_, weight)| *weight).map_or(Kind::Kill, |(kind, _)| *kind);
    let node = rng.random_range(0..nodes);
    let until_millis = (at + rng.random_range(kind.lasts_millis())).min(end);
    Step { kind, node, from_millis: at, until_millis }
}

fn fits(steps: &[Step], new: &Step) -> bool {
    let collides = |step: &Step| {
        let same = step.kind.hold() == new.kind.hold() && (step.node == new.node || new.kind.hold().is_of_all());
        same && step.until_millis + REST_MILLIS > new.from_millis
    };
    // A lost disk leaves a voter behind that is never heard of again: a second one could end the majority for good.
    let second_wipe = new.kind == Kind::Wipe && steps.iter().any(|step| step.kind == Kind::Wipe);
    let running = |step: &&Step| !step.kind.hold().is_of_all() && step.until_millis > new.from_millis;
    let crowded = !new.kind.hold().is_of_all() && steps.iter().filter(running).count() >= AT_ONCE;
    !second_wipe && !crowded && !steps.iter().any(collides)
}

/// One side of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    pub at_millis: u64,
    pub begins: bool,
    pub step: Step,
}

/// All beginnings and ends in the order of time.
pub fn actions(steps: &[Step]) -> Vec<Action> {
    let both = |step: &Step| {
        let begin = Action { at_millis: step.from_millis, begins: true, step: *step };
        [begin, Action { at_millis: step.until_millis, begins: false, step: *step }]
    };
    let mut actions: Vec<Action> = steps.iter().flat_map(both).collect();
    // Stable: what ends and begins at the same time keeps the plan's order.
    actions.sort_by_key(|action| action.at_millis);
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        let plan = |seed| compose(&mut workload::rng(seed, "random plan"), 60, 3);
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn plans_can_be_carried_out() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let steps = compose(&mut workload::rng(seed, "random plan"), 40, 3);
            assert!(steps.len() >= 5, "seed {seed}: {steps:?}");
            assert!(steps.iter().filter(|step| step.kind == Kind::Wipe).count() <= 1, "seed {seed}");
            let mut held: Vec<(Hold, usize)> = Vec::new();
            for action in actions(&steps) {
                let step = action.step;
                assert!(action.at_millis <= 40_000 && step.from_millis < step.until_millis, "seed {seed}: {step}");
                let hold = (step.kind.hold(), if step.kind.hold().is_of_all() { 0 } else { step.node });
                if action.begins {
                    assert!(!held.contains(&hold), "seed {seed}: {step} meets another");
                    held.push(hold);
                    seen.insert(format!("{:?}", step.kind));
                } else {
                    held.retain(|other| *other != hold);
                }
                let on_nodes = held.iter().filter(|(hold, _)| !hold.is_of_all()).count();
                assert!(on_nodes <= AT_ONCE, "seed {seed}: {held:?}");
            }
            assert!(held.is_empty(), "seed {seed}: {held:?}");
        }
        assert_eq!(seen.len(), Kind::ALL.len(), "{seen:?}");
    }
}
