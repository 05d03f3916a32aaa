//! A question about the open connections of all nodes, and one node's part of the answer. Travels between nodes; asked by
//! the admin side, answered by connections. Plain types.

use serde::{Deserialize, Serialize};

use crate::delivery::{ConnectionView, Selection};

/// What the connections with the largest values come first by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sort {
    /// How long they have been open.
    Age,
    /// Messages both ways a second, on the average of their life.
    Rate,
    /// Unsent bytes.
    PendingBytes,
}

/// Where a page begins: behind this place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Sorted by this, largest first…
    pub key: u64,
    /// …and among equals by the connection's id.
    pub id: String,
}

impl Place {
    /// Smaller places come first.
    pub fn order(&self) -> (std::cmp::Reverse<u64>, &str) {
        (std::cmp::Reverse(self.key), &self.id)
    }
}

/// The question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionQuery {
    pub selection: Selection,
    /// Beside a user: only those that are in this group too.
    pub in_group: Option<String>,
    pub sort: Sort,
    /// Rows at most.
    pub limit: usize,
    pub after: Option<Place>,
}

/// One node's part of the answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConnectionPage {
    /// All that fulfil the question, on whichever page.
    pub matched: u64,
    /// Sorted.
    pub rows: Vec<(Place, ConnectionView)>,
    /// There are more behind these.
    pub more: bool,
}

impl ConnectionPage {
    /// Adds another node's part, which was asked for as many rows.
    pub fn merge(&mut self, other: ConnectionPage, limit: usize) {
        self.matched += other.matched;
        self.more |= other.more;
        self.rows.extend(other.rows);
        self.rows.sort_by(|(left, _), (right, _)| left.order().cmp(&right.order()));
        self.more |= self.rows.len() > limit;
        self.rows.truncate(limit);
    }
}
