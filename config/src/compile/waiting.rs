//! What may wait for a client: the outbox of a slow one, and what is kept for one that lost its network. Called by
//! compile; imports model and document.

use std::time::Duration;

use crate::document::{self, WhenFull as Written};
use crate::findings::Findings;
use wsgateway_model::coalesce::CoalesceBy;
use wsgateway_model::endpoint::{OutboxSettings, WhenFull};
use wsgateway_model::json_path::JsonPath;
use wsgateway_model::limits;
use wsgateway_model::resume::ResumeRule;

use super::size;

const COALESCE_BY: &str = "settings.outbox.coalesceBy";

pub fn outbox(settings: Option<&document::Settings>, findings: &mut Findings) -> OutboxSettings {
    let from = settings.and_then(|settings| settings.outbox.clone()).unwrap_or_default();
    let when_full = match from.when_full {
        None | Some(Written::Close) => WhenFull::Close,
        Some(Written::DropOldest) => WhenFull::DropOldest,
        Some(Written::DropNewest) => WhenFull::DropNewest,
        Some(Written::Coalesce) => WhenFull::Coalesce,
    };
    match (when_full, &from.coalesce_by) {
        (WhenFull::Coalesce, None) => findings.add(COALESCE_BY, "is needed with whenFull \"coalesce\""),
        (WhenFull::Close | WhenFull::DropOldest | WhenFull::DropNewest, Some(_)) => {
            findings.add(COALESCE_BY, "only belongs to whenFull \"coalesce\"");
        }
        _ => {}
    }
    let path = from.coalesce_by.as_deref().and_then(|text| findings.take(COALESCE_BY, JsonPath::parse(text)));
    OutboxSettings {
        max_bytes: size(from.max_bytes, limits::OUTBOX_BYTES_DEFAULT),
        max_messages: size(from.max_messages.map(u64::from), u64::from(limits::OUTBOX_MESSAGES_DEFAULT)),
        when_full,
        coalesce_by: path.map(CoalesceBy::new),
    }
}

pub fn resume(from: Option<&document::Resume>) -> Option<ResumeRule> {
    from.map(|from| ResumeRule {
        window: Duration::from_secs(from.window_in_seconds.unwrap_or(limits::RESUME_WINDOW_SECONDS_DEFAULT)),
        max_bytes: size(from.max_bytes, limits::RESUME_BYTES_DEFAULT),
    })
}
