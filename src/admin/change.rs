//! Who asks for a change, why, and under which conditions: what the headers of all writes say, and the note that a write
//! leaves in the audit log.

use actix_web::HttpRequest;

use super::access::caller;
use super::problem::Problem;
use super::request::{checked_message, digest, expected_version, idempotency_key};
use super::rules::{self, Found};
use super::Api;
use crate::access::audit::{Note, MESSAGE_CHARS_MAX};
use crate::config::store::Change;
use crate::connections::connection::unix_millis;

/// A change of configuration.
pub(super) fn change(api: &Api, request: &HttpRequest, message: String, body: &[u8]) -> Result<Change, Problem> {
    checked_message(&message)?;
    let expected = expected_version(request)?;
    let request_id = request_id(request, body)?;
    let note = note(api, request, &message)?;
    Ok(Change { request_id, author: note.author.clone(), message, expected, note: Some(note.text()) })
}

/// What makes a repeated write the same write.
pub(super) fn request_id(request: &HttpRequest, body: &[u8]) -> Result<String, Problem> {
    Ok(match idempotency_key(request)? {
        // The same key on another request is another request.
        Some(key) => format!("key:{key}:{}", digest(request, body)?),
        None => format!("auto:{:032x}", rand::random::<u128>()),
    })
}

/// What the audit log keeps of this request.
pub(super) fn note(api: &Api, request: &HttpRequest, message: &str) -> Result<Note, Problem> {
    let caller = caller(request)?;
    let path = request.match_info();
    let route = match rules::find(request.method().as_str(), path.as_str()) {
        Found::Rule(rule) => rule.path,
        // Behind the table there is nothing that it does not have.
        _ => path.as_str(),
    };
    Ok(Note {
        at: unix_millis(),
        author: caller.name.to_string(),
        token: caller.token_id.map(|id| id.to_string()),
        method: request.method().to_string(),
        route: route.to_owned(),
        target: path.get("id").or_else(|| path.get("cid")).map(str::to_owned),
        node: api.hub.node_name.clone(),
        address: request.peer_addr().map_or_else(String::new, |addr| addr.ip().to_string()),
        message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
    })
}
