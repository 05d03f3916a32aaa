//! A family of metrics whose members can be read here, too: what `/metrics` shows and what the history adds up are the
//! same counters. Members are kept for good, in the order in which they came.

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
    members: Vec<(L, M)>,
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
        if let Some(place) = known.places.get(labels) {
            return known.members[*place].1.clone();
        }
        let member = self.family.get_or_create(labels).clone();
        let place = known.members.len();
        known.places.insert(labels.clone(), place);
        known.members.push((labels.clone(), member.clone()));
        member
    }

    fn find(&self, labels: &L) -> Option<M> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.places.get(labels).map(|place| known.members[*place].1.clone())
    }

    /// Looks at every member; the same ones are always in the same places.
    pub fn each(&self, mut look: impl FnMut(&L, &M)) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        for (labels, member) in &known.members {
            look(labels, member);
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
        counted.each(|labels, counter| seen.push((labels[0].1.clone(), counter.get())));
        assert_eq!(seen, [("b".to_owned(), 2), ("a".to_owned(), 2)]);
        assert_eq!(counted.family().get_or_create(&labels("a")).get(), 2);
    }
}
