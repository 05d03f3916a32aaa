//! Which connections of this node fulfil a question, for lists of them: looked at by a thread that carries none, and no
//! more rows are made than are asked for. Part of the hub.

use std::collections::BinaryHeap;
use std::sync::Arc;

use super::connection::unix_millis;
use super::hub::{Hub, Overloaded};
use super::outlet::Outlet;
use crate::model::connection_filter::ConnectionFilter;
use crate::model::connection_query::{ConnectionPage, ConnectionQuery, Place, Sort};
use crate::model::delivery::ConnectionView;
use crate::model::expression::RouteScratch;

/// A row that may be of the page; the last one is the greatest.
struct Row(Place, Arc<Outlet>);

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        self.0 == other.0
    }
}

impl Eq for Row {}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Row) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Row {
    fn cmp(&self, other: &Row) -> std::cmp::Ordering {
        self.0.order().cmp(&other.0.order())
    }
}

impl Hub {
    /// The rows that are asked for, of this node's connections.
    pub async fn query(
        self: &Arc<Self>,
        query: ConnectionQuery,
        filter: Option<ConnectionFilter>,
    ) -> Result<ConnectionPage, Overloaded> {
        let under_way = self.fan_outs.begin()?;
        let permit = self.fan_outs.thread().await;
        let hub = self.clone();
        let page = tokio::task::spawn_blocking(move || {
            let _while_it_looks = permit;
            hub.page(&query, filter.as_ref())
        })
        .await;
        drop(under_way);
        page.map_err(|err| {
            tracing::error!("a list of connections did not come to its end: {err}");
            Overloaded
        })
    }

    fn page(&self, query: &ConnectionQuery, filter: Option<&ConnectionFilter>) -> ConnectionPage {
        let now = unix_millis();
        let mut scratch = RouteScratch::default();
        let mut page = ConnectionPage::default();
        let mut rows: BinaryHeap<Row> = BinaryHeap::new();
        for outlet in self.receivers(&query.selection) {
            let wanted = outlet.is_open()
                && query.in_group.as_ref().is_none_or(|group| outlet.labels().has(group))
                && filter.is_none_or(|filter| outlet.fulfils(filter, &mut scratch));
            if !wanted {
                continue;
            }
            page.matched += 1;
            let place = Place { key: key(&outlet, query.sort, now), id: outlet.facts.id_text.clone() };
            if query.after.as_ref().is_some_and(|after| place.order() <= after.order()) {
                continue;
            }
            rows.push(Row(place, outlet));
            if rows.len() > query.limit {
                page.more = true;
                rows.pop();
            }
        }
        let viewed = |Row(place, outlet): Row| (place, outlet.view(&self.node_name));
        page.rows = rows.into_sorted_vec().into_iter().map(viewed).collect();
        page
    }
}

fn key(outlet: &Outlet, sort: Sort, now: u64) -> u64 {
    match sort {
        // The same for as long as it is open.
        Sort::Age => u64::MAX - outlet.facts.connected_at_millis,
        Sort::Rate => {
            let messages = outlet.activity.events_in() + outlet.events_out();
            rate_thousandths(messages, now.saturating_sub(outlet.facts.connected_at_millis))
        }
        Sort::PendingBytes => outlet.pending_bytes() as u64,
    }
}

/// Messages in a thousand seconds. A connection that has just opened is not the busiest for its first message.
fn rate_thousandths(messages: u64, age_millis: u64) -> u64 {
    messages.saturating_mul(1_000_000) / age_millis.max(1_000)
}

impl Outlet {
    /// The connection as an operator sees it.
    pub(super) fn view(&self, node: &str) -> ConnectionView {
        let facts = &self.facts;
        let (groups, tags) = {
            let labels = self.labels();
            (labels.groups(), labels.tags().map(|tags| tags.to_string()))
        };
        ConnectionView {
            id: facts.id_text.clone(),
            endpoint: self.endpoint_id().to_owned(),
            path: facts.path.clone(),
            node: node.to_owned(),
            user: facts.user.clone(),
            groups,
            tags,
            source_ip: facts.source_ip.to_string(),
            user_agent: facts.user_agent.clone(),
            connected_at_millis: facts.connected_at_millis,
            last_active_at_millis: self.last_active_millis(),
            events_in: self.activity.events_in(),
            events_out: self.events_out(),
            pending_bytes: self.pending_bytes(),
            in_flight: self.activity.in_flight(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_whole_life() {
        assert_eq!(rate_thousandths(0, 0), 0);
        assert_eq!(rate_thousandths(5, 10), 5_000, "as if it were a second old");
        assert_eq!(rate_thousandths(10, 4_000), 2_500);
    }
}
