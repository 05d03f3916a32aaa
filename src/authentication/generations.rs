//! A bounded map that forgets what has not been asked for: two generations, of which the older one is dropped when the
//! younger one is full. Pure; used by passwords and tokens.

use std::collections::HashMap;

/// SHA-256 or HMAC of what is remembered: keys are never the secrets themselves.
pub type Digest = [u8; 32];

/// At most twice `entries_max` entries.
pub struct Generations<V> {
    entries_max: usize,
    young: HashMap<Digest, V>,
    old: HashMap<Digest, V>,
}

impl<V: Clone> Generations<V> {
    pub fn new(entries_max: usize) -> Generations<V> {
        Generations { entries_max, young: HashMap::new(), old: HashMap::new() }
    }

    pub fn get(&mut self, key: &Digest) -> Option<V> {
        if let Some(known) = self.young.get(key) {
            return Some(known.clone());
        }
        let known = self.old.remove(key)?;
        self.insert(*key, known.clone());
        Some(known)
    }

    pub fn insert(&mut self, key: Digest, value: V) {
        if self.young.len() >= self.entries_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Digest {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_le_bytes());
        key
    }

    #[test]
    fn keeps_what_is_asked_for_and_is_bounded() {
        let mut map = Generations::new(10);
        map.insert(key(0), 0);
        for n in 1..1000 {
            map.insert(key(n), n);
            assert_eq!(map.get(&key(0)), Some(0), "in use");
            assert!(map.young.len() + map.old.len() <= 20);
        }
        assert_eq!(map.get(&key(999)), Some(999));
        assert_eq!(map.get(&key(500)), None);
    }
}
