//! What connections are called: their groups and their tags. They belong to the connection and end with it; nothing is
//! stored or replicated.

use actix_web::{web, HttpResponse};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{json, Map, Value};

use super::body::read_body;
use super::connections_api::connection_id;
use super::operation::{Operation, JSON};
use super::problem::Problem;
use super::Api;
use crate::config::findings::{member, Finding};
use crate::model::delivery::{is_group_name, Labelling};
use crate::model::limits::{GROUP_BYTES_MAX, TAGS_BYTES_MAX, TAGS_MAX};

const MEMBERSHIP: &str = "/api/v1/groups/{group}/connections/{cid}";
const TAGS: &str = "/api/v1/connections/{cid}/tags";

pub fn operations() -> Vec<Operation> {
    let of_a_connection = |operation: Operation| {
        operation
            .problem(400, "malformed_connection_id")
            .problem(410, "connection_gone")
            .problems(503, &["owner_unreachable", "overloaded"])
    };
    vec![
        of_a_connection(Operation::put(MEMBERSHIP, || web::to(join), "joinGroup"))
            .about("Put a connection into a group", "It is in it until it is taken out or ends.")
            .answers_empty(204, "It is in the group, and may have been before")
            .problem(400, "invalid_group")
            .problem(409, "too_many_groups"),
        of_a_connection(Operation::delete(MEMBERSHIP, || web::to(leave), "leaveGroup"))
            .about("Take a connection out of a group", "")
            .answers_empty(204, "It is not in the group, and may not have been before")
            .problem(400, "invalid_group"),
        of_a_connection(Operation::put(TAGS, || web::to(tag), "tagConnection"))
            .about("Tag a connection", "Its tags are these from now on; {} takes them away. Filters look at them.")
            .body::<Tags>(&[JSON], json!({"plan": "gold", "beta": true}))
            .answers_empty(204, "These are its tags")
            .problem(400, "invalid_request"),
    ]
}

/// Texts, numbers and truth values by name.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": ["string", "number", "boolean"]}))]
struct Tags(Map<String, Value>);

#[derive(Deserialize)]
struct Member {
    group: String,
    cid: String,
}

pub(super) fn group_name(name: &str) -> Result<&str, Problem> {
    match is_group_name(name) {
        true => Ok(name),
        false => {
            let detail =
                format!("a group's name has 1–{GROUP_BYTES_MAX} bytes and no control characters, not {name:?}");
            Err(Problem::new(400, "invalid_group", detail))
        }
    }
}

async fn join(api: web::Data<Api>, at: web::Path<Member>, body: web::Payload) -> Result<HttpResponse, Problem> {
    change(&api, &at, body, Labelling::Join).await
}

async fn leave(api: web::Data<Api>, at: web::Path<Member>, body: web::Payload) -> Result<HttpResponse, Problem> {
    change(&api, &at, body, Labelling::Leave).await
}

async fn change(
    api: &Api,
    at: &Member,
    body: web::Payload,
    change: fn(String) -> Labelling,
) -> Result<HttpResponse, Problem> {
    // There is nothing to say in it; unread, it would cost the caller its connection.
    let _nothing = read_body(body.into_inner(), 0).await;
    let group = group_name(&at.group)?;
    api.pushes.label(&connection_id(&at.cid)?, &change(group.to_owned())).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn tag(api: web::Data<Api>, cid: web::Path<String>, body: web::Payload) -> Result<HttpResponse, Problem> {
    let body = read_body(body.into_inner(), TAGS_BYTES_MAX).await;
    let id = connection_id(&cid)?;
    let tags = read_tags(&body?).map_err(|finding| Problem::invalid("invalid_request", vec![finding]))?;
    api.pushes.label(&id, &Labelling::Tag(tags)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The tags as JSON.
fn read_tags(body: &[u8]) -> Result<String, Finding> {
    let wrong = |path: String, message: String| Finding { path, message };
    let read: Result<Tags, _> = serde_json::from_slice(body);
    let Tags(tags) = read.map_err(|err| wrong(String::new(), format!("is no object of tags: {err}")))?;
    if tags.len() > TAGS_MAX {
        return Err(wrong(String::new(), format!("may have {TAGS_MAX} tags, has {}", tags.len())));
    }
    let odd = tags.iter().find(|(_, value)| !matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_)));
    if let Some((name, _)) = odd {
        return Err(wrong(member("", name), "must be a text, a number, true or false".to_owned()));
    }
    Ok(Value::Object(tags).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_flat_and_few() {
        assert_eq!(read_tags(br#"{"a": "x", "b": 1.5, "c": true}"#).unwrap(), r#"{"a":"x","b":1.5,"c":true}"#);
        assert_eq!(read_tags(b"{}").unwrap(), "{}");
        for (body, path) in
            [("[]", ""), ("", ""), ("{\"a\": null}", "a"), ("{\"a b\": {}}", "[\"a b\"]"), ("{\"a\": [1]}", "a")]
        {
            assert_eq!(read_tags(body.as_bytes()).unwrap_err().path, path, "{body}");
        }
        let many: Map<String, Value> = (0..33).map(|number| (number.to_string(), number.into())).collect();
        assert!(read_tags(Value::Object(many).to_string().as_bytes()).unwrap_err().message.contains("has 33"));
    }
}
