//! Identities that are busy on several nodes: each gives its part of the rate. One that is known on one node only has the
//! whole rate there.

use std::collections::HashMap;

use super::report::EndpointReport;
use crate::model::identities::Identities;
use crate::model::shares::{divide as divide_rate, Need};

/// Identities of one endpoint that a node tells others of; the busiest ones. Beyond, an identity may get its rate on
/// more than one node.
const TOLD_MAX: usize = 512;

/// See `model::shares`.
const HEADROOM: f64 = 1.25;

/// Those whose rate could be exceeded together with what they do on other nodes.
pub(super) fn busy(identities: &Identities, rate: f64, nodes: usize, seconds: f64) -> Vec<(u64, f32)> {
    if nodes < 2 {
        return Vec::new();
    }
    let threshold = rate / nodes as f64 / 2.0;
    let mut busy = Vec::new();
    identities.for_each(|hash, identity| {
        let tried = identity.follow_tried(seconds);
        if f64::from(tried) >= threshold {
            busy.push((hash, tried));
        }
    });
    if busy.len() > TOLD_MAX {
        busy.select_nth_unstable_by(TOLD_MAX, |a, b| b.1.total_cmp(&a.1));
        busy.truncate(TOLD_MAX);
    }
    busy
}

/// Takes this node's part of each identity's rate.
pub(super) fn divide<'r>(identities: &Identities, rate: f64, others: impl Iterator<Item = &'r EndpointReport>) {
    let mut elsewhere: HashMap<u64, Vec<f32>> = HashMap::new();
    for report in others {
        for (hash, tried) in report.identities.iter().take(TOLD_MAX).filter(|(_, tried)| tried.is_finite()) {
            elsewhere.entry(*hash).or_default().push(*tried);
        }
    }
    identities.for_each(|hash, identity| {
        let Some(others) = elsewhere.get(&hash) else { return identity.set_part(1.0) };
        let here = std::iter::once(identity.tried());
        let need = |tried: f32| Need { weight: 1.0, wanted: f64::from(tried) * HEADROOM };
        let needs: Vec<_> = here.chain(others.iter().copied()).map(need).collect();
        identity.set_part(divide_rate(rate, &needs)[0] / rate);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identities::Found;
    use crate::model::shares::Load;
    use std::sync::atomic::Ordering;

    #[test]
    fn only_busy_ones_are_told_and_divided() {
        let identities = Identities::default();
        let held: Vec<_> = [(1, 100), (2, 1), (3, 30)]
            .into_iter()
            .map(|(hash, attempts)| {
                let Found::Own(identity) = identities.find(hash, 0) else { panic!("there is room") };
                identity.attempts.store(attempts, Ordering::Relaxed);
                identity
            })
            .collect();
        let mut told = busy(&identities, 60.0, 3, 1.0);
        told.sort_by_key(|(hash, _)| *hash);
        assert_eq!(told, [(1, 100.0), (3, 30.0)]);
        assert!(busy(&identities, 60.0, 1, 1.0).is_empty());
        let other = EndpointReport::new(Load::default(), vec![(1, 10.0), (9, 50.0)]);
        divide(&identities, 60.0, [&other].into_iter());
        let parts: Vec<_> = held.iter().map(|identity| identity.part() * 60.0).collect();
        assert!((parts[0] - 47.5).abs() < 0.01, "the other node wants 12.5: {parts:?}");
        assert_eq!(parts[1..], [60.0, 60.0]);
        divide(&identities, 60.0, std::iter::empty());
        assert_eq!(held[0].part(), 1.0);
    }
}
