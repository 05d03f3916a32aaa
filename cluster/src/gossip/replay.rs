//! Which numbers of which senders were seen: pure. Called by `seal`, with what has proven to know the secret only.
//!
//! A sender numbers its datagrams from its start to its end (a *run*), for all receivers together. Of a run, the
//! receiver knows the highest number and which of the [`WINDOW`] below it have come. Nothing here looks at a clock.

use std::collections::HashMap;

/// How far a datagram may be behind the newest one of its sender. A node sends a few datagrams a second, so that this
/// is minutes; the network reorders by milliseconds.
pub(super) const WINDOW: u64 = 1_024;
/// Runs that are remembered, each in about 1 KB with its key. A run is one start of one node: enough for a cluster of
/// fifty whose nodes have restarted twenty times each.
pub(super) const RUNS_MAX: usize = 1_024;

const WORD_BITS: u64 = u64::BITS as u64;

/// A sender from its start to its end, drawn at random.
pub(super) type RunId = [u8; 16];

/// The numbers of one run that were seen.
#[derive(Debug)]
pub(super) struct Window {
    highest: u64,
    /// Number `n` is the bit `n % WINDOW`, for the [`WINDOW`] numbers up to `highest`.
    seen: [u64; (WINDOW / WORD_BITS) as usize],
}

impl Window {
    /// Begins with the first number that is heard of a run. What is older counts as seen: this receiver could not tell
    /// whether it has been, and somebody may have kept it.
    fn starting_at(first: u64) -> Window {
        Window { highest: first, seen: [u64::MAX; (WINDOW / WORD_BITS) as usize] }
    }

    /// Whether the number is new; it is not any more afterwards.
    fn take(&mut self, number: u64) -> bool {
        if let Some(behind) = self.highest.checked_sub(number) {
            let is_new = behind < WINDOW && !self.is_seen(number);
            if is_new {
                self.mark(number, true);
            }
            return is_new;
        }
        // What the window moves over has not come yet.
        let oldest = number.saturating_sub(WINDOW - 1).max(self.highest + 1);
        for skipped in oldest..number {
            self.mark(skipped, false);
        }
        self.highest = number;
        self.mark(number, true);
        true
    }

    fn is_seen(&self, number: u64) -> bool {
        let bit = number % WINDOW;
        self.seen[(bit / WORD_BITS) as usize] & (1 << (bit % WORD_BITS)) != 0
    }

    fn mark(&mut self, number: u64, seen: bool) {
        let bit = number % WINDOW;
        let word = &mut self.seen[(bit / WORD_BITS) as usize];
        let mask = 1 << (bit % WORD_BITS);
        if seen {
            *word |= mask;
        } else {
            *word &= !mask;
        }
    }
}

struct Run<K> {
    key: K,
    window: Window,
    /// The value of [`Runs::turn`] when it was last heard.
    heard: u64,
}

/// The runs heard lately, each with the key that opens its datagrams.
pub(super) struct Runs<K> {
    runs: HashMap<RunId, Run<K>>,
    runs_max: usize,
    turn: u64,
}

impl<K> Runs<K> {
    pub(super) fn new(runs_max: usize) -> Runs<K> {
        Runs { runs: HashMap::new(), runs_max, turn: 0 }
    }

    pub(super) fn key(&self, id: &RunId) -> Option<&K> {
        self.runs.get(id).map(|run| &run.key)
    }

    /// Whether this number of a known run is new. A run that is not known is not heard.
    pub(super) fn take(&mut self, id: &RunId, number: u64) -> bool {
        let Some(run) = self.runs.get_mut(id) else { return false };
        let is_new = run.window.take(number);
        if is_new {
            self.turn += 1;
            run.heard = self.turn;
        }
        is_new
    }

    /// A run that was not known, in the place of the one that has been silent for longest when there is no other.
    pub(super) fn insert(&mut self, id: RunId, key: K, number: u64) {
        if self.runs.len() >= self.runs_max {
            let silent = self.runs.iter().min_by_key(|(_, run)| run.heard).map(|(id, _)| *id);
            silent.and_then(|id| self.runs.remove(&id));
        }
        self.turn += 1;
        self.runs.insert(id, Run { key, window: Window::starting_at(number), heard: self.turn });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn each_number_is_taken_once_in_any_order() {
        let mut window = Window::starting_at(10);
        assert!(!window.take(10));
        for number in [11, 13, 12, 20, 14, 19] {
            assert!(window.take(number), "{number}");
            assert!(!window.take(number), "{number} again");
        }
    }

    #[test]
    fn what_is_older_than_the_first_one_heard_is_not_taken() {
        let mut window = Window::starting_at(5_000);
        assert!((0..=5_000).all(|number| !window.take(number)));
        assert!(window.take(5_001));
        assert!((0..=5_001).all(|number| !window.take(number)), "nor after the window has moved");
    }

    #[test]
    fn what_the_window_has_left_is_not_taken() {
        let mut window = Window::starting_at(0);
        assert!(window.take(WINDOW + 1));
        assert!(!window.take(1), "one too old");
        assert!(window.take(2), "the oldest in the window");
        assert!(window.take(u64::MAX));
        assert!(!window.take(u64::MAX - WINDOW));
        assert!(window.take(u64::MAX - WINDOW + 1));
    }

    /// Against a set of everything that was seen.
    #[test]
    fn it_agrees_with_a_set_that_forgets_nothing() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let first = random.random_range(0..3 * WINDOW);
        let (mut window, mut seen, mut highest) = (Window::starting_at(first), HashSet::from([first]), first);
        for _ in 0..100_000 {
            let ahead = if random.random_ratio(1, 50) { 3 * WINDOW } else { 4 };
            let number = (highest + random.random_range(0..=ahead)).saturating_sub(random.random_range(0..WINDOW + 50));
            let expected = number > first && number + WINDOW > highest && seen.insert(number);
            assert_eq!(window.take(number), expected, "{number} after {highest}, seed {seed}");
            highest = highest.max(number);
        }
    }

    #[test]
    fn the_run_that_was_silent_for_longest_makes_room() {
        let id = |number: u8| [number; 16];
        let mut runs = Runs::new(3);
        for number in 1..=3 {
            runs.insert(id(number), (), 0);
        }
        assert!(runs.take(&id(1), 1));
        assert!(!runs.take(&id(2), 0), "a replay does not count as a sign of life");
        runs.insert(id(4), (), 0);
        assert!(runs.key(&id(2)).is_none());
        assert!([1, 3, 4].iter().all(|number| runs.key(&id(*number)).is_some()));
        assert!(!runs.take(&id(2), 1), "not known any more");
        assert!(!runs.take(&id(1), 1), "still known");
    }
}
