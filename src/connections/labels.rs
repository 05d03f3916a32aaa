//! What a connection is called beyond its user: the groups that it is in and its tags. They are its own and end with it.
//! Behind the lock of its outlet; imports model only.

use std::sync::Arc;

use serde_json::Value;

use crate::model::limits::GROUPS_MAX;

/// Groups and tags of one connection.
#[derive(Debug, Default)]
pub(super) struct Labels {
    /// Few, so a list.
    groups: Vec<Box<str>>,
    /// An object.
    tags: Option<Arc<Value>>,
    /// The connection has left the indexes: nothing is added any more.
    ended: bool,
}

/// What became of a request to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    New,
    Already,
    TooMany,
    Ended,
}

impl Labels {
    pub fn join(&mut self, group: &str) -> Joined {
        if self.ended {
            return Joined::Ended;
        }
        if self.has(group) {
            return Joined::Already;
        }
        if self.groups.len() >= GROUPS_MAX {
            return Joined::TooMany;
        }
        self.groups.push(group.into());
        Joined::New
    }

    /// Whether it was in it.
    pub fn leave(&mut self, group: &str) -> bool {
        let place = self.groups.iter().position(|known| **known == *group);
        if let Some(place) = place {
            self.groups.swap_remove(place);
        }
        place.is_some()
    }

    /// Whether it is open.
    pub fn tag(&mut self, tags: Value) -> bool {
        let empty = tags.as_object().is_none_or(|members| members.is_empty());
        self.tags = (!empty && !self.ended).then(|| Arc::new(tags));
        !self.ended
    }

    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The groups that it was in until now.
    pub fn end(&mut self) -> Vec<Box<str>> {
        self.ended = true;
        self.tags = None;
        std::mem::take(&mut self.groups)
    }

    pub fn has(&self, group: &str) -> bool {
        self.groups.iter().any(|known| **known == *group)
    }

    pub fn groups(&self) -> Vec<String> {
        self.groups.iter().map(|group| group.to_string()).collect()
    }

    pub fn tags(&self) -> Option<Arc<Value>> {
        self.tags.clone()
    }

    /// Adds them to a connection's description.
    pub fn describe(&self, description: &mut Value) {
        let Some(members) = description.as_object_mut() else { return };
        members.insert("groups".to_owned(), self.groups().into());
        members.insert("tags".to_owned(), self.tags.as_ref().map_or(Value::Null, |tags| (**tags).clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn groups_are_bounded_and_end() {
        let mut labels = Labels::default();
        assert_eq!((labels.join("a"), labels.join("a"), labels.join("b")), (Joined::New, Joined::Already, Joined::New));
        assert!(labels.leave("a") && !labels.leave("a"));
        for number in 1..GROUPS_MAX {
            assert_eq!(labels.join(&number.to_string()), Joined::New);
        }
        assert_eq!((labels.join("one more"), labels.join("b")), (Joined::TooMany, Joined::Already));
        assert_eq!(labels.end().len(), GROUPS_MAX);
        assert_eq!(labels.join("late"), Joined::Ended);
        assert!(!labels.tag(json!({"a": 1})) && labels.tags().is_none());
    }

    #[test]
    fn tags_are_replaced() {
        let mut labels = Labels::default();
        assert!(labels.tag(json!({"a": 1})) && labels.tag(json!({"b": 2})));
        let mut description = json!({"user": "ann"});
        labels.join("g");
        labels.describe(&mut description);
        assert_eq!(description, json!({"user": "ann", "groups": ["g"], "tags": {"b": 2}}));
        assert!(labels.tag(json!({})));
        assert_eq!(labels.tags(), None);
    }
}
