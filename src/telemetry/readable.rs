//! A family of metrics whose members can be read here, too: what `/metrics` shows and what the history adds up are the
//! same counters. Members are in the order in which they came, and stay until they are retired.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::metrics::family::Family;

/// See the module. Cheap to clone; the members are cheap to clone as well and share what they count.
#[derive(Clone, Debug)]
pub struct Readable<L, M: Clone> {
    family: Family<L, M>,
    known: Arc<RwLock<Known<L, M>>>,
}

#[derive(Debug)]
struct Known<L, M> {
    places: HashMap<L, usize>,
    /// None: retired. Its place stays empty, so that readings of before and after fit together.
    members: Vec<Option<(L, M)>>,
}

impl<L: Clone + Hash + Eq, M: Clone + Default> Default for Readable<L, M> {
    fn default() -> Self {
        let known = Known { places: HashMap::new(), members: Vec::new() };
        Readable { family: Family::default(), known: Arc::new(RwLock::new(known)) }
    }
}

impl<L: Clone + Hash + Eq, M: Clone + Default> Readable<L, M> {
    /// The member of these labels. To be kept by whoever counts often: this takes a lock.
    pub fn get_or_create(&self, labels: &L) -> M {
        if let Some(member) = self.find(labels) {
            return member;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, member)) = known.places.get(labels).and_then(|place| known.members[*place].as_ref()) {
            return member.clone();
        }
        let member = self.family.get_or_create(labels).clone();
        let place = known.members.len();
        known.places.insert(labels.clone(), place);
        known.members.push(Some((labels.clone(), member.clone())));
        member
    }

    fn find(&self, labels: &L) -> Option<M> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.places.get(labels).and_then(|place| known.members[*place].as_ref()).map(|(_, member)| member.clone())
    }

    /// Looks at every member and its place, which is always the same one.
    pub fn each(&self, mut look: impl FnMut(usize, &L, &M)) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        for (place, member) in known.members.iter().enumerate() {
            if let Some((labels, member)) = member {
                look(place, labels, member);
            }
        }
    }

    /// What the members say, each in its place.
    pub fn read<V: Default>(&self, value: impl Fn(&M) -> V) -> Vec<V> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .members
            .iter()
            .map(|member| member.as_ref().map_or_else(V::default, |(_, member)| value(member)))
            .collect()
    }

    /// Lets go of members whose labels stand for nothing any more, and gives each away. Whoever has kept one counts for
    /// nobody from then on.
    pub fn retire(&self, is_gone: impl Fn(&L) -> bool, mut retired: impl FnMut(&L, &M)) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let Known { places, members } = &mut *known;
        for member in members.iter_mut() {
            if let Some((labels, last)) = member.take_if(|(labels, _)| is_gone(labels)) {
                self.family.remove(&labels);
                places.remove(&labels);
                retired(&labels, &last);
            }
        }
    }

    /// For the registry.
    pub fn family(&self) -> Family<L, M> {
        self.family.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn members_are_those_of_the_family_and_keep_their_places() {
        let counted: Readable<Vec<(String, String)>, Counter> = Readable::default();
        let labels = |name: &str| vec![("name".to_owned(), name.to_owned())];
        counted.get_or_create(&labels("b")).inc();
        counted.get_or_create(&labels("a")).inc_by(2);
        counted.get_or_create(&labels("b")).inc();
        let mut seen = Vec::new();
        counted.each(|place, labels, counter| seen.push((place, labels[0].1.clone(), counter.get())));
        assert_eq!(seen, [(0, "b".to_owned(), 2), (1, "a".to_owned(), 2)]);
        assert_eq!(counted.family().get_or_create(&labels("a")).get(), 2);
    }

    #[test]
    fn who_is_retired_leaves_its_place_empty_and_begins_anew_when_it_comes_again() {
        let counted: Readable<Vec<(String, String)>, Counter> = Readable::default();
        let labels = |name: &str| vec![("name".to_owned(), name.to_owned())];
        for (name, count) in [("a", 1), ("b", 2), ("c", 3)] {
            counted.get_or_create(&labels(name)).inc_by(count);
        }
        let mut retired = 0;
        counted.retire(|labels| labels[0].1 == "b", |_, counter| retired += counter.get());
        assert_eq!((retired, counted.read(Counter::get)), (2, vec![1, 0, 3]));
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("counted", "x", counted.family());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("name=\"a\"") && !text.contains("name=\"b\""), "{text}");
        counted.get_or_create(&labels("b")).inc();
        assert_eq!(counted.read(Counter::get), [1, 0, 3, 1]);
        counted.get_or_create(&labels("c")).inc();
        assert_eq!(counted.read(Counter::get), [1, 0, 4, 1], "the others are where they were");
    }
}
