//! One record to the connections that it names: what is tried again, for how long, and what is counted. Called by
//! partition; knows nothing of Kafka.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Clients, Handed, SourceMetrics};
use crate::model::connection_id::ConnectionId;
use crate::model::delivery::{Recipients, Tally};
use crate::model::json_check::validate_json;
use crate::model::limits::SOURCE_MESSAGE_BYTES_MAX;
use crate::model::source::{RecordParts, Target};

/// A client whose outbox is full gets so much time to read: the records behind this one wait for it.
const FULL_PATIENCE: Duration = Duration::from_millis(250);
/// A node that cannot be reached is tried for so long: a link that broke is back by then, a dead node is found out.
const UNREACHABLE_PATIENCE: Duration = Duration::from_secs(2);
/// A record that names many has this long for all of them; after it each gets one try, for as long again.
const RECORD_PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// Whose connections they are, and who gets the records.
pub(super) struct Recipient {
    pub endpoint: Arc<str>,
    pub target: Target,
}

/// Hands a record over, or counts why not. Ends within a few seconds whatever happens.
pub(super) async fn hand_over(
    clients: &dyn Clients,
    to: &Recipient,
    record: &RecordParts<'_>,
    message: Bytes,
    metrics: &SourceMetrics,
) {
    if message.len() > SOURCE_MESSAGE_BYTES_MAX {
        return metrics.record("too_big");
    }
    if validate_json(record.value).is_err() {
        return metrics.record("invalid_json");
    }
    let Ok(names) = to.target.names(record) else { return metrics.record("invalid_json") };
    let until = Instant::now() + RECORD_PATIENCE;
    match &to.target {
        Target::Connection(_) | Target::Asker { .. } => {
            let ids: Vec<ConnectionId> = names.iter().filter_map(|name| name.parse().ok()).collect();
            if ids.is_empty() {
                return metrics.record("no_target");
            }
            for id in ids {
                if Instant::now() >= until + RECORD_PATIENCE {
                    metrics.messages("unreachable", 1);
                    continue;
                }
                metrics.messages(to_connection(clients, id, &message, until).await, 1);
            }
        }
        Target::User(_) | Target::Group(_) => {
            if names.is_empty() {
                return metrics.record("no_target");
            }
            let recipients = match to.target {
                Target::Group(_) => Recipients::Group,
                _ => Recipients::User,
            };
            for name in names {
                if Instant::now() >= until + RECORD_PATIENCE {
                    metrics.messages("unreachable", 1);
                    continue;
                }
                to_many(clients, to, (recipients(name), until), &message, metrics).await;
            }
        }
        Target::All => to_many(clients, to, (Recipients::All, until), &message, metrics).await,
    }
    metrics.record("handed_over");
}

async fn to_connection(clients: &dyn Clients, id: ConnectionId, message: &Bytes, until: Instant) -> &'static str {
    let began = Instant::now();
    loop {
        let (outcome, patience) = match clients.to_connection(id, message.clone()).await {
            Handed::Queued => return "queued",
            Handed::Never(outcome) => return outcome,
            Handed::Full => ("outbox_full", FULL_PATIENCE),
            Handed::Unreachable => ("unreachable", UNREACHABLE_PATIENCE),
        };
        if began.elapsed() >= patience || Instant::now() >= until {
            return outcome;
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Those whose outbox is full are not waited for: the others would get the message twice, or late.
async fn to_many(
    clients: &dyn Clients,
    to: &Recipient,
    (recipients, until): (Recipients, Instant),
    message: &Bytes,
    metrics: &SourceMetrics,
) {
    let patience = UNREACHABLE_PATIENCE.min(until.saturating_duration_since(Instant::now()));
    let sent = clients.to_many(to.endpoint.clone(), recipients, message.clone(), patience);
    let (Tally { queued, full, too_big, gone, transform_failed }, unreachable) = sent.await;
    for (outcome, count) in [
        ("queued", queued),
        ("outbox_full", full),
        ("too_big", too_big),
        ("gone", gone),
        ("transform_failed", transform_failed),
        ("unreachable", unreachable),
    ] {
        metrics.messages(outcome, count);
    }
    if queued + full + too_big + gone + transform_failed + unreachable == 0 {
        metrics.messages("nobody", 1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use futures::future::{ready, BoxFuture, FutureExt};

    use super::*;
    use crate::model::json_path::JsonPath;
    use crate::telemetry::metrics::{Metrics, SourceLabels};

    /// Answers as told, then with success.
    #[derive(Default)]
    struct Scripted {
        answers: Mutex<VecDeque<Handed>>,
        got: Mutex<Vec<String>>,
    }

    impl Clients for Scripted {
        fn to_connection(&self, id: ConnectionId, _: Bytes) -> BoxFuture<'static, Handed> {
            self.got.lock().unwrap().push(id.to_string());
            ready(self.answers.lock().unwrap().pop_front().unwrap_or(Handed::Queued)).boxed()
        }

        fn to_many(&self, _: Arc<str>, to: Recipients, _: Bytes, _: Duration) -> BoxFuture<'static, (Tally, u64)> {
            self.got.lock().unwrap().push(format!("{to:?}"));
            ready((Tally { queued: 2, full: 1, ..Tally::default() }, 1)).boxed()
        }
    }

    fn metrics() -> SourceMetrics {
        let labels = SourceLabels { endpoint: "/e".to_owned(), source: "t/g".to_owned() };
        SourceMetrics { metrics: Metrics::default(), labels }
    }

    async fn hand(clients: &Scripted, target: Target, key: &str, value: &'static str) -> String {
        let metrics = metrics();
        let to = Recipient { endpoint: "ep-1".into(), target };
        let record = RecordParts { key: Some(key), headers: Vec::new(), value: value.as_bytes() };
        hand_over(clients, &to, &record, Bytes::from_static(value.as_bytes()), &metrics).await;
        let rendered = metrics.metrics.render().unwrap();
        let lines = rendered.lines().filter(|line| line.starts_with("wsgateway_source_"));
        let short = |line: &str| {
            let (name, rest) = line.split_once('{').unwrap();
            let outcome = rest.split("outcome=\"").nth(1).unwrap().split('"').next().unwrap();
            let count = line.rsplit(' ').next().unwrap();
            format!("{} {outcome} {count}", name.trim_start_matches("wsgateway_source_").trim_end_matches("_total"))
        };
        let mut lines: Vec<_> = lines.map(short).collect();
        lines.sort();
        lines.join(", ")
    }

    fn by_key() -> Target {
        Target::Connection(JsonPath::parse("$.key").unwrap())
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again() {
        let id = ConnectionId::generate(1, 1).to_string();
        let clients = Scripted::default();
        clients.answers.lock().unwrap().extend([Handed::Full, Handed::Unreachable]);
        assert_eq!(hand(&clients, by_key(), &id, "1").await, "messages queued 1, records handed_over 1");
        assert_eq!(clients.got.lock().unwrap().len(), 3);
        clients.answers.lock().unwrap().push_back(Handed::Never("gone"));
        assert_eq!(hand(&clients, by_key(), &id, "1").await, "messages gone 1, records handed_over 1");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up_soon() {
        let id = ConnectionId::generate(1, 1).to_string();
        let clients = Scripted::default();
        clients.answers.lock().unwrap().extend([Handed::Full; 1000]);
        let began = Instant::now();
        assert_eq!(hand(&clients, by_key(), &id, "1").await, "messages outbox_full 1, records handed_over 1");
        assert!(began.elapsed() >= FULL_PATIENCE && began.elapsed() < UNREACHABLE_PATIENCE, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn records_that_name_nobody_are_counted() {
        let clients = Scripted::default();
        assert_eq!(hand(&clients, by_key(), "no id", "1").await, "records no_target 1");
        assert_eq!(hand(&clients, by_key(), "x", "{").await, "records invalid_json 1");
        let by_value = Target::User(JsonPath::parse("$.value.user").unwrap());
        assert_eq!(hand(&clients, by_value.clone(), "x", "{}").await, "records no_target 1");
        assert!(clients.got.lock().unwrap().is_empty());
        let expected = "messages outbox_full 1, messages queued 2, messages unreachable 1, records handed_over 1";
        assert_eq!(hand(&clients, by_value, "x", r#"{"user": "ann"}"#).await, expected);
        let by_group = Target::Group(JsonPath::parse("$.key").unwrap());
        assert_eq!(hand(&clients, by_group, "chat", "[]").await, expected);
        assert_eq!(hand(&clients, Target::All, "x", "[]").await, expected);
        assert_eq!(*clients.got.lock().unwrap(), ["User(\"ann\")", "Group(\"chat\")", "All"]);
    }
}
