//! Which of a connection's events a backend gets one after the other, and which at once. Made by config; asked by
//! inbound's dispatch. Imports model's JSONPath.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::json_path::JsonPath;

/// `settings.ordering`.
#[derive(Debug)]
pub enum OrderRule {
    /// One after the other.
    Connection,
    /// Those with the same value at the path one after the other, others at once.
    Key {
        path: JsonPath,
        /// So many at most.
        at_once: u32,
    },
    /// All at once.
    None {
        /// So many at most.
        at_once: u32,
    },
}

/// What an event has to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Everything before it; and everything behind it waits for it.
    Alone,
    /// Those before it with the same key. Different keys that share a number do no harm: they wait for each other.
    Keyed { key: u64, at_once: u32 },
    /// Nothing but that fewer than so many are under way.
    Free { at_once: u32 },
}

impl OrderRule {
    pub const fn as_str(&self) -> &'static str {
        match self {
            OrderRule::Connection => "connection",
            OrderRule::Key { .. } => "key",
            OrderRule::None { .. } => "none",
        }
    }

    /// What an event is ordered by.
    pub fn key<'v>(&self, event: Option<&'v Value>) -> Option<&'v Value> {
        match self {
            OrderRule::Key { path, .. } => path.first(event?),
            OrderRule::Connection | OrderRule::None { .. } => None,
        }
    }

    /// The turn of a client's event, or of one of the gateway's own, which has no tree. Events without a key are ordered
    /// among each other.
    pub fn turn(&self, event: Option<&Value>) -> Turn {
        match self {
            OrderRule::Connection => Turn::Alone,
            OrderRule::Key { at_once, .. } => Turn::Keyed { key: number(self.key(event)), at_once: *at_once },
            OrderRule::None { at_once } => Turn::Free { at_once: *at_once },
        }
    }
}

fn number(key: Option<&Value>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match key {
        None => 0u8.hash(&mut hasher),
        Some(Value::String(text)) => (1u8, text).hash(&mut hasher),
        Some(other) => (2u8, other.to_string()).hash(&mut hasher),
    }
    hasher.finish()
}

/// What is under way of one connection at one backend.
#[derive(Debug, Default)]
pub struct UnderWay {
    count: u32,
    alone: bool,
    /// At most `at_once` of them.
    keys: Vec<u64>,
}

impl UnderWay {
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The place of the first of the waiting turns that may begin now.
    pub fn next(&self, waiting: impl IntoIterator<Item = Turn>) -> Option<usize> {
        for (at, turn) in waiting.into_iter().enumerate() {
            match turn {
                // Nobody passes it, and it passes nobody.
                Turn::Alone => return (at == 0 && self.is_empty()).then_some(0),
                _ if self.alone => return None,
                Turn::Free { at_once } | Turn::Keyed { at_once, .. } if self.count >= at_once => return None,
                Turn::Free { .. } => return Some(at),
                Turn::Keyed { key, .. } if !self.keys.contains(&key) => return Some(at),
                // Its key is under way; one of another key may pass it.
                Turn::Keyed { .. } => {}
            }
        }
        None
    }

    pub fn begin(&mut self, turn: Turn) {
        self.count += 1;
        match turn {
            Turn::Alone => self.alone = true,
            Turn::Keyed { key, .. } => self.keys.push(key),
            Turn::Free { .. } => {}
        }
    }

    pub fn end(&mut self, turn: Turn) {
        self.count -= 1;
        match turn {
            Turn::Alone => self.alone = false,
            Turn::Keyed { key, .. } => {
                if let Some(at) = self.keys.iter().position(|known| *known == key) {
                    self.keys.swap_remove(at);
                }
            }
            Turn::Free { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keyed(key: u64) -> Turn {
        Turn::Keyed { key, at_once: 3 }
    }

    #[test]
    fn keys_are_the_values_at_the_path() {
        let rule = OrderRule::Key { path: JsonPath::parse("$.order").unwrap(), at_once: 3 };
        let turn = |event: Value| rule.turn(Some(&event));
        assert_eq!(turn(json!({"order": 1, "n": 1})), turn(json!({"order": 1, "n": 2})));
        assert_eq!(turn(json!({"order": {"a": 1}})), turn(json!({"order": {"a": 1}})));
        let all = [json!(1), json!("1"), json!(2), json!(null), json!([1]), json!(true)];
        let turns: Vec<_> = all.into_iter().map(|key| turn(json!({"order": key}))).collect();
        assert!(turns.iter().enumerate().all(|(at, turn)| !turns[..at].contains(turn)), "{turns:?}");
        assert_eq!(turn(json!({})), rule.turn(None), "no key is one as well");
        assert_eq!(OrderRule::Connection.turn(None), Turn::Alone);
        assert_eq!(OrderRule::None { at_once: 2 }.turn(None), Turn::Free { at_once: 2 });
    }

    #[test]
    fn one_after_the_other_by_connection() {
        let mut under_way = UnderWay::default();
        let waiting = [Turn::Alone, Turn::Alone];
        assert_eq!(under_way.next(waiting), Some(0));
        under_way.begin(Turn::Alone);
        assert_eq!(under_way.next(waiting), None);
        under_way.end(Turn::Alone);
        assert_eq!(under_way.next(waiting), Some(0));
        assert_eq!(under_way.next([]), None);
    }

    #[test]
    fn other_keys_pass_up_to_the_limit() {
        let mut under_way = UnderWay::default();
        under_way.begin(keyed(1));
        assert_eq!(under_way.next([keyed(1), keyed(1), keyed(2), keyed(3)]), Some(2));
        under_way.begin(keyed(2));
        assert_eq!(under_way.next([keyed(1), keyed(2)]), None);
        assert_eq!(under_way.next([keyed(1), keyed(3)]), Some(1));
        under_way.begin(keyed(3));
        assert_eq!(under_way.next([keyed(4)]), None, "three at once");
        under_way.end(keyed(1));
        assert_eq!(under_way.next([keyed(1), keyed(4)]), Some(0));
    }

    #[test]
    fn any_at_once_up_to_the_limit() {
        let mut under_way = UnderWay::default();
        let free = Turn::Free { at_once: 2 };
        (0..2).for_each(|_| under_way.begin(free));
        assert_eq!(under_way.next([free]), None);
        under_way.end(free);
        assert_eq!(under_way.next([free]), Some(0));
    }

    #[test]
    fn rules_may_change_between_events() {
        // Events of an older version and a newer one in one lane.
        let mut under_way = UnderWay::default();
        under_way.begin(keyed(1));
        assert_eq!(under_way.next([keyed(1), Turn::Alone, keyed(2)]), None, "nobody passes the one that goes alone");
        assert_eq!(under_way.next([Turn::Alone]), None);
        under_way.end(keyed(1));
        under_way.begin(Turn::Alone);
        assert_eq!(under_way.next([Turn::Free { at_once: 8 }]), None);
        under_way.end(Turn::Alone);
        assert!(under_way.is_empty());
    }
}
