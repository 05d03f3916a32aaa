//! How a limit of the whole cluster is divided among its nodes. Pure, and the same on every node that knows the same
//! reports: then the parts add up to the limit. Called by the exchange of shares; imports nothing.

/// Of every limit so much is divided equally, so that a node without connections can serve the first ones at once.
const EQUAL_FRACTION: f64 = 0.1;

/// A node may ask for so much more than was tried lately: what comes in grows faster than it is reported.
const HEADROOM: f64 = 1.25;

/// Places for connections are asked for this many seconds ahead: until shares have moved.
const PLACES_AHEAD_SECONDS: f64 = 2.0;

/// A node without anything counts a little.
const WEIGHT_LEAST: f64 = 1.0;

/// What one node has of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Open connections.
    pub open: u64,
    /// Handshakes tried a second.
    pub opening: f64,
    /// Messages tried a second.
    pub messages: f64,
    /// The part of `maxConnections` that it keeps to now.
    pub part: f64,
}

/// What one node weighs, and what it could use.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    pub weight: f64,
    pub wanted: f64,
}

/// Divides `total`: a little equally; of the rest nobody gets more than it wants while others go short, and those get it
/// by their weights; what nobody wants goes by the weights too.
pub fn divide(total: f64, needs: &[Need]) -> Vec<f64> {
    let equal = total * EQUAL_FRACTION / needs.len() as f64;
    let mut given = vec![equal; needs.len()];
    let mut left = total - equal * needs.len() as f64;
    let mut short: Vec<usize> = (0..needs.len()).collect();
    loop {
        let weights: f64 = short.iter().map(|node| needs[*node].weight).sum();
        let offer = |node: usize| left * needs[node].weight / weights;
        let still_wanted = |node: usize| (needs[node].wanted - equal).max(0.0);
        let (content, others): (Vec<_>, Vec<_>) =
            short.iter().copied().partition(|node| still_wanted(*node) <= offer(*node));
        if content.is_empty() {
            short.iter().for_each(|node| given[*node] += offer(*node));
            break;
        }
        let taken: f64 = content.iter().map(|node| still_wanted(*node)).sum();
        content.iter().for_each(|node| given[*node] += still_wanted(*node));
        left -= taken;
        short = others;
        if short.is_empty() {
            let weights: f64 = needs.iter().map(|need| need.weight).sum();
            given.iter_mut().zip(needs).for_each(|(given, need)| *given += left * need.weight / weights);
            break;
        }
    }
    given
}

/// Each node's part of the rate of messages.
pub fn message_parts(rate: f64, loads: &[Load]) -> Vec<f64> {
    parts(rate, loads, |load| load.messages)
}

/// Each node's part of the rate of new connections.
pub fn connection_rate_parts(rate: f64, loads: &[Load]) -> Vec<f64> {
    parts(rate, loads, |load| load.opening)
}

fn parts(rate: f64, loads: &[Load], tried: impl Fn(&Load) -> f64) -> Vec<f64> {
    let need = |load: &Load| Need { weight: weight(load), wanted: tried(load) * HEADROOM };
    let needs: Vec<_> = loads.iter().map(need).collect();
    divide(rate, &needs).into_iter().map(|given| given / rate).collect()
}

/// Shares follow the connections.
fn weight(load: &Load) -> f64 {
    load.open as f64 + WEIGHT_LEAST
}

/// Each node's part of the places for connections: those that it has, and its part of the free ones, in whole places.
pub fn connection_parts(max: u64, loads: &[Load]) -> Vec<f64> {
    let open: u64 = loads.iter().map(|load| load.open).sum();
    let free = max.saturating_sub(open);
    // A free place is for whoever asks for it, however many the node has.
    let need = |load: &Load| Need {
        weight: load.opening + WEIGHT_LEAST,
        wanted: load.opening * HEADROOM * PLACES_AHEAD_SECONDS,
    };
    let needs: Vec<_> = loads.iter().map(need).collect();
    let places = whole(free, &divide(free as f64, &needs));
    loads.iter().zip(places).map(|(load, places)| (load.open + places) as f64 / max as f64).collect()
}

/// Rounds to whole numbers whose sum is `total`: the largest remainders are rounded up.
fn whole(total: u64, given: &[f64]) -> Vec<u64> {
    // What floating point took from a whole number is put back.
    let mut rounded: Vec<u64> = given.iter().map(|given| (given + 1e-9) as u64).collect();
    let mut order: Vec<usize> = (0..given.len()).collect();
    let remainder = |node: usize| given[node] - given[node].floor();
    order.sort_by(|a, b| remainder(*b).total_cmp(&remainder(*a)).then(a.cmp(b)));
    let missing = total.saturating_sub(rounded.iter().sum());
    order.into_iter().cycle().take(missing as usize).for_each(|node| rounded[node] += 1);
    rounded
}

/// What a node keeps to from now on, when it kept to `now` and `wanted` is its part: giving up is done at once, taking
/// only what the others (`others`: what they last said that they keep to, or have) have given up already. So the sum
/// stays within the limit while shares move.
pub fn next_connection_part(now: f64, wanted: f64, others: f64) -> f64 {
    if wanted <= now {
        return wanted;
    }
    wanted.min(1.0 - others).max(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(weight: f64, wanted: f64) -> Need {
        Need { weight, wanted }
    }

    #[track_caller]
    fn divides(total: f64, needs: &[Need], expected: &[f64]) {
        let given = divide(total, needs);
        assert!((given.iter().sum::<f64>() - total).abs() < 1e-6 * total, "{given:?}");
        let near = given.iter().zip(expected).all(|(given, expected)| (given - expected).abs() < 0.01);
        assert!(near && given.len() == expected.len(), "{given:?}, expected {expected:?}");
    }

    #[test]
    fn everybody_floods() {
        divides(100.0, &[need(80.0, 1e6), need(10.0, 1e6), need(10.0, 1e6)], &[75.33, 12.33, 12.33]);
        divides(100.0, &[need(1.0, 1e6)], &[100.0]);
    }

    #[test]
    fn what_one_does_not_want_others_get() {
        // Many idle connections do not keep the busy node short.
        divides(90.0, &[need(98.0, 0.0), need(1.0, 1e6), need(1.0, 10.0)], &[3.0, 77.0, 10.0]);
        divides(90.0, &[need(1.0, 1e6), need(1.0, 0.0), need(1.0, 0.0)], &[84.0, 3.0, 3.0]);
    }

    #[test]
    fn when_nobody_wants_anything_shares_follow_the_connections() {
        divides(100.0, &[need(80.0, 0.0), need(10.0, 0.0), need(10.0, 0.0)], &[75.33, 12.33, 12.33]);
        divides(90.0, &[need(1.0, 5.0), need(1.0, 5.0), need(1.0, 5.0)], &[30.0, 30.0, 30.0]);
    }

    fn places(max: u64, loads: &[(u64, f64)]) -> Vec<u64> {
        let loads: Vec<_> =
            loads.iter().map(|(open, opening)| Load { open: *open, opening: *opening, ..Load::default() }).collect();
        connection_parts(max, &loads).into_iter().map(|part| (part * max as f64).round() as u64).collect()
    }

    #[test]
    fn places_are_whole_and_add_up() {
        assert_eq!(places(100, &[(0, 0.0), (0, 0.0), (0, 0.0)]), [34, 33, 33]);
        assert_eq!(places(100, &[(33, 500.0), (0, 0.0), (0, 0.0)]), [96, 2, 2]);
        assert_eq!(places(100, &[(99, 1.0), (0, 0.0), (0, 0.0)]), [100, 0, 0]);
        assert_eq!(places(100, &[(99, 0.0), (0, 1.0), (0, 0.0)]), [99, 1, 0], "the last place goes where it is wanted");
        assert_eq!(places(100, &[(120, 50.0), (3, 5.0), (0, 5.0)]), [120, 3, 0], "above the limit nobody gets one");
        assert_eq!(places(2, &[(0, 0.0), (0, 0.0), (0, 0.0)]), [1, 1, 0]);
    }

    #[test]
    fn giving_up_comes_before_taking() {
        assert_eq!(next_connection_part(0.5, 0.2, 0.9), 0.2);
        assert_eq!(next_connection_part(0.125, 0.5, 0.75), 0.25);
        assert_eq!(next_connection_part(0.2, 0.5, 0.5), 0.5);
        assert_eq!(next_connection_part(0.2, 0.5, 1.3), 0.2, "too much is given already: nobody gives up twice");
    }

    /// Three nodes that hear of each other a second late, each in its own moment, while clients come in unevenly.
    #[test]
    fn the_limit_holds_while_shares_move() {
        let max = 300u64;
        let mut loads = vec![Load { part: 1.0 / 3.0, ..Load::default() }; 3];
        let mut heard = loads.clone();
        let arrivals = [[100, 10, 10], [100, 10, 10], [0, 90, 10], [0, 0, 200], [50, 50, 50], [20, 20, 20], [9, 9, 9]];
        for arriving in arrivals {
            for node in 0..3 {
                let mut seen = heard.clone();
                seen[node] = loads[node];
                let wanted = connection_parts(max, &seen)[node];
                let others: f64 = (0..3)
                    .filter(|other| *other != node)
                    .map(|other| seen[other].part.max(seen[other].open as f64 / max as f64))
                    .sum();
                loads[node].part = next_connection_part(loads[node].part, wanted, others);
                let allowed = (loads[node].part * max as f64 + 1e-6) as u64;
                loads[node].open = (loads[node].open + arriving[node]).min(allowed.max(loads[node].open));
                loads[node].opening = arriving[node] as f64;
                if node != 1 {
                    // One node's report is late by a round.
                    heard[node] = loads[node];
                }
            }
            heard[1] = loads[1];
            let open: u64 = loads.iter().map(|load| load.open).sum();
            assert!(open <= max, "{open} of {max}: {loads:?}");
        }
        let open: u64 = loads.iter().map(|load| load.open).sum();
        assert!(open >= max * 95 / 100, "{open} of {max}: {loads:?}");
    }
}
