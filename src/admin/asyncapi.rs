//! What clients of an endpoint may send and will receive, as an AsyncAPI 3 document: made from the endpoint's own
//! document, from the client's side (its `send` is an event for the gateway). Pure. Called by `asyncapi_api`; imports
//! config's document types.

use serde_json::{json, Map, Value};

use crate::config::document::{
    Ack, ApiKeyPlace, Authentication, AuthenticationMode, Backend, BackendType, EndpointDocument, Route, RouteType,
};
use crate::model::limits::MAX_MESSAGE_BYTES_DEFAULT;

/// What an error frame may say.
const ERROR_CODES: [&str; 7] = [
    "invalid_json",
    "schema_violation",
    "no_route",
    "transform_failed",
    "throttled",
    "delivery_failed",
    "refresh_refused",
];

/// The one channel: an endpoint is one socket.
const CHANNEL: &str = "#/channels/endpoint";

/// Where clients connect to a node.
pub struct Server {
    pub name: String,
    /// `ws` or `wss`.
    pub protocol: String,
    pub host: String,
    /// What endpoints' paths are below; empty: nothing.
    pub pathname: String,
}

/// The document of one version.
pub fn asyncapi(document: &EndpointDocument, version: u64, servers: &[Server]) -> Value {
    let mut made = Made::default();
    for route in document.routes.iter().flatten() {
        made.event(document, route);
    }
    made.frames(document);
    let scheme = document.authentication.as_ref().and_then(security_scheme);
    let channel = json!({
        "address": document.path.replace("{*", "{"),
        "title": document.name.as_deref().unwrap_or(&document.path),
        "description": channel_description(document),
        "parameters": parameters(&document.path),
        "messages": made.messages.keys().map(|id| (id.clone(), reference("/components/messages", id))).collect::<Map<_, _>>(),
        "bindings": {"ws": handshake(document)},
    });
    let mut components = json!({"messages": made.messages, "schemas": made.schemas});
    let mut security = Vec::new();
    if let Some(scheme) = scheme {
        components["securitySchemes"] = json!({"client": scheme});
        security.push(json!({"$ref": "#/components/securitySchemes/client"}));
    }
    let server = |server: &Server| {
        let mut described = json!({"host": server.host, "protocol": server.protocol,
            "description": format!("Node {}", server.name), "security": security});
        if !server.pathname.is_empty() {
            described["pathname"] = Value::String(server.pathname.clone());
        }
        (identifier(&server.name), described)
    };
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": document.name.as_deref().unwrap_or(&document.path),
            "version": version.to_string(),
            "description": "From the client's side: it sends events, and receives what services push, what they answer \
                            and the gateway's own frames.",
        },
        "defaultContentType": "application/json",
        "servers": servers.iter().map(server).collect::<Map<_, _>>(),
        "channels": {"endpoint": channel},
        "operations": made.operations,
        "components": components,
    })
}

fn reference(place: &str, id: &str) -> Value {
    json!({"$ref": format!("#{place}/{id}")})
}

/// A text as a key of the document.
fn identifier(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' }).collect()
}

fn channel_description(document: &EndpointDocument) -> String {
    let settings = document.settings.as_ref();
    let bytes = settings.and_then(|settings| settings.max_message_bytes).unwrap_or(MAX_MESSAGE_BYTES_DEFAULT);
    format!("Each message is one JSON text of at most {bytes} bytes; a larger one closes the connection with 1009.")
}

fn parameters(path: &str) -> Value {
    let names = path.split('{').skip(1).filter_map(|part| part.split_once('}').map(|(name, _)| name));
    let described = |name: &str| match name.strip_prefix('*') {
        Some(rest) => (rest.to_owned(), json!({"description": "The rest of the path; may have slashes"})),
        None => (name.to_owned(), json!({"description": "One segment of the path"})),
    };
    Value::Object(names.map(described).collect())
}

/// What a client's handshake may or must have, as the WebSocket binding says it.
fn handshake(document: &EndpointDocument) -> Value {
    let (mut query, mut headers) = (Map::new(), Map::new());
    let mut required = (Vec::new(), Vec::new());
    let subprotocols = document.settings.as_ref().and_then(|settings| settings.subprotocols.as_ref());
    if let Some(subprotocols) = subprotocols.filter(|subprotocols| !subprotocols.is_empty()) {
        let text = format!("The first of these is echoed: {}", subprotocols.join(", "));
        headers.insert("Sec-WebSocket-Protocol".to_owned(), json!({"type": "string", "description": text}));
    }
    let origins = document.filters.as_ref().and_then(|filters| filters.allowed_origins.as_ref());
    if let Some(origins) = origins.filter(|origins| !origins.iter().any(|origin| origin == "*")) {
        let text = format!("Of pages, when it is not the endpoint's own: {}", origins.join(", "));
        headers.insert("Origin".to_owned(), json!({"type": "string", "description": text}));
    }
    if let Some(authentication) = &document.authentication {
        if authentication.mode == AuthenticationMode::ApiKey {
            let name = authentication.name.clone().unwrap_or_else(|| "X-Api-Key".to_owned());
            let key = json!({"type": "string", "description": "The API key"});
            match authentication.place {
                None | Some(ApiKeyPlace::Header) => {
                    required.1.push(name.clone());
                    headers.insert(name, key);
                }
                Some(ApiKeyPlace::Query) => {
                    required.0.push(name.clone());
                    query.insert(name, key);
                }
                Some(ApiKeyPlace::Subprotocol) => {}
            }
        }
        let takes_token = !matches!(
            authentication.mode,
            AuthenticationMode::None | AuthenticationMode::ApiKey | AuthenticationMode::ClientCertificate
        );
        if let (true, Some(name)) = (takes_token, &authentication.token_query) {
            query.insert(name.clone(), json!({"type": "string", "description": "The token, instead of Authorization"}));
        }
    }
    json!({
        "method": "GET",
        "query": {"type": "object", "properties": query, "required": required.0},
        "headers": {"type": "object", "properties": headers, "required": required.1},
        "bindingVersion": "0.1.0",
    })
}

fn security_scheme(authentication: &Authentication) -> Option<Value> {
    let bearer = |text: String| json!({"type": "http", "scheme": "bearer", "description": text});
    Some(match authentication.mode {
        AuthenticationMode::None => return None,
        AuthenticationMode::Basic => json!({"type": "http", "scheme": "basic"}),
        AuthenticationMode::ApiKey => {
            let name = authentication.name.as_deref().unwrap_or("X-Api-Key");
            match authentication.place {
                None | Some(ApiKeyPlace::Header) => json!({"type": "httpApiKey", "in": "header", "name": name}),
                Some(ApiKeyPlace::Query) => json!({"type": "httpApiKey", "in": "query", "name": name}),
                Some(ApiKeyPlace::Subprotocol) => json!({"type": "httpApiKey", "in": "header",
                    "name": "Sec-WebSocket-Protocol",
                    "description": "`bearer.` and the key, beside the subprotocol that is meant"}),
            }
        }
        AuthenticationMode::ClientCertificate => json!({"type": "X509"}),
        AuthenticationMode::Bearer | AuthenticationMode::Authorizer => bearer("A token".to_owned()),
        AuthenticationMode::Jwt | AuthenticationMode::Oauth2 => {
            let issuer = authentication.issuer.as_deref().map(|issuer| format!(" of {issuer}")).unwrap_or_default();
            let scopes = authentication.required_scopes.as_ref().filter(|scopes| !scopes.is_empty());
            let scopes = scopes.map(|scopes| format!(" with the scopes {}", scopes.join(", "))).unwrap_or_default();
            bearer(format!("An access token{issuer}{scopes}"))
        }
    })
}

/// What is collected route by route.
#[derive(Default)]
struct Made {
    messages: Map<String, Value>,
    schemas: Map<String, Value>,
    operations: Map<String, Value>,
}

impl Made {
    /// What a client may send for a route that takes its events.
    fn event(&mut self, document: &EndpointDocument, route: &Route) {
        let when = match (route.kind, &route.key, &route.expression) {
            (RouteType::Default, _, _) => "Taken when no custom route is.".to_owned(),
            (RouteType::Custom, Some(key), _) => {
                let selector = document.route_selector.as_deref().unwrap_or_default();
                format!("Taken when the text at `{selector}` is `{key}`.")
            }
            (RouteType::Custom, None, Some(expression)) => {
                let condition = bare(serde_json::to_value(expression).unwrap_or_default());
                format!("Taken when this holds: `{condition}`.")
            }
            _ => return,
        };
        let kind = if route.kind == RouteType::Default { "default" } else { "custom" };
        let mut id = format!("{kind}-{}", identifier(&route.name));
        while self.messages.contains_key(&id) {
            id.push('-');
        }
        let payload = self.payload(document, route, &id);
        self.messages.insert(
            id.clone(),
            json!({"name": route.name, "title": route.name, "summary": when, "contentType": "application/json",
                "payload": payload}),
        );
        let mut operation = json!({"action": "send", "channel": {"$ref": CHANNEL}, "title": route.name,
            "summary": when, "messages": [reference("/channels/endpoint/messages", &id)]});
        let mut replies = Vec::new();
        if route.ack.is_some() || document.ack.is_some() {
            replies.push(reference("/channels/endpoint/messages", "ack"));
        }
        if answers(route) {
            replies.push(reference("/channels/endpoint/messages", "reply"));
        }
        if !replies.is_empty() {
            operation["reply"] = json!({"channel": {"$ref": CHANNEL}, "messages": replies});
        }
        self.operations.insert(format!("send-{id}"), operation);
    }

    /// The route's schema, and what its key says.
    fn payload(&mut self, document: &EndpointDocument, route: &Route, id: &str) -> Value {
        let by_key = route.key.as_ref().and_then(|key| key_schema(document.route_selector.as_deref()?, key));
        let by_schema = route.schema.as_ref().map(|schema| {
            let mut schema = schema.clone();
            let place = format!("#/components/schemas/{id}");
            if let Some(members) = schema.as_object_mut() {
                // Its references are those of the whole document now.
                members.remove("$schema");
                members.remove("$id");
            }
            relocate(&mut schema, &place);
            self.schemas.insert(id.to_owned(), schema);
            json!({"$ref": place})
        });
        match (by_schema, by_key) {
            (Some(schema), Some(key)) => json!({"allOf": [schema, key]}),
            (Some(schema), None) | (None, Some(schema)) => schema,
            (None, None) => json!({"description": "Any JSON"}),
        }
    }

    /// What a client may receive.
    fn frames(&mut self, document: &EndpointDocument) {
        let routes = || document.routes.iter().flatten();
        let pushed = match document.sources.iter().flatten().next() {
            Some(_) => "What a service pushes, or writes to a topic",
            None => "What a service pushes",
        };
        self.receive("push", pushed, json!({"description": "Any JSON"}));
        if routes().any(answers) {
            self.receive(
                "reply",
                "What a service answered, or the client's own event back from an echo",
                json!({"description": "Any JSON"}),
            );
        }
        let acks: Vec<&Ack> = document.ack.iter().chain(routes().filter_map(|route| route.ack.as_ref())).collect();
        if !acks.is_empty() {
            let own = acks.iter().any(|ack| ack.template.is_some());
            let payload =
                if own { json!({"description": "What a template of the endpoint makes"}) } else { ack_schema() };
            self.receive("ack", "The gateway has taken an event, or it is delivered", payload);
        }
        self.receive("error", "The gateway says what became of an event", error_schema());
    }

    fn receive(&mut self, id: &str, summary: &str, payload: Value) {
        let message = json!({"name": id, "summary": summary, "contentType": "application/json", "payload": payload});
        self.messages.insert(id.to_owned(), message);
        let operation = json!({"action": "receive", "channel": {"$ref": CHANNEL}, "summary": summary,
            "messages": [reference("/channels/endpoint/messages", id)]});
        self.operations.insert(format!("receive-{id}"), operation);
    }
}

/// Whether a backend of the route speaks to the sender.
fn answers(route: &Route) -> bool {
    let answers = |backend: &Backend| {
        backend.kind == BackendType::Echo || backend.reply == Some(true) || backend.reply_topic.is_some()
    };
    route.backends.iter().flatten().any(answers)
}

/// What an event with this key looks like, where the selector is a plain chain of names.
fn key_schema(selector: &str, key: &str) -> Option<Value> {
    let names: Vec<&str> = selector.strip_prefix("$.")?.split('.').collect();
    let plain = |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !names.iter().all(plain) {
        return None;
    }
    Some(names.iter().rev().fold(
        json!({"const": key}),
        |schema, name| json!({"type": "object", "required": [name], "properties": {*name: schema}}),
    ))
}

/// Makes a schema's references to itself those of the document that it now stands in. What is data stays as it is.
fn relocate(schema: &mut Value, place: &str) {
    match schema {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("const" | "enum" | "default" | "examples" | "example", _) => {}
                    ("$ref", Value::String(target)) => {
                        if let Some(below) = target.strip_prefix('#') {
                            *target = format!("{place}{below}");
                        }
                    }
                    (_, member) => relocate(member, place),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| relocate(item, place)),
        _ => {}
    }
}

/// An expression without the members that are not there. A null to compare with is there.
fn bare(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let there = |(name, member): &(String, Value)| name == "value" || !member.is_null();
            members.into_iter().filter(there).map(|(name, member)| (name, bare(member))).collect()
        }
        Value::Array(items) => items.into_iter().map(bare).collect(),
        other => other,
    }
}

fn ack_schema() -> Value {
    json!({
        "type": "object",
        "required": ["type", "eventId", "status"],
        "properties": {
            "type": {"const": "ack"},
            "eventId": {"type": "string"},
            "status": {"enum": ["received", "delivered"]},
            "clientEventId": {"description": "The field `id` of the event, if it had one"},
        },
    })
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["type", "error", "connectionId", "eventId"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"enum": ERROR_CODES},
                    "message": {"type": "string"},
                    "retryAfterMillis": {"type": "integer", "minimum": 1, "description": "With code throttled"},
                },
            },
            "connectionId": {"type": "string"},
            "eventId": {"type": "string"},
            "clientEventId": {"description": "The field `id` of the event, if it had one"},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(document: Value) -> Value {
        let document: EndpointDocument = serde_json::from_value(document).expect("a document");
        asyncapi(&document, 3, &[server()])
    }

    fn server() -> Server {
        let (protocol, host) = ("wss".to_owned(), "127.0.0.1:8081".to_owned());
        Server { name: "n 1".into(), protocol, host, pathname: "/ws".into() }
    }

    #[test]
    fn each_route_that_takes_events_is_a_message_with_its_condition() {
        let made = of(json!({"path": "/shop/{country}/{*rest}", "routeSelector": "$.a.b", "routes": [
            {"type": "connect", "name": "hello"},
            {"type": "custom", "name": "buy it", "key": "buy", "backends": [{"type": "echo"}]},
            {"type": "custom", "name": "buy-it", "expression": {"not": {"equal": {"path": "$.x", "value": null}}}},
            {"type": "default", "name": "rest", "ack": {"when": "received"}}]}));
        let messages = made["components"]["messages"].as_object().expect("messages");
        let ids: Vec<&String> = messages.keys().collect();
        assert_eq!(ids, ["ack", "custom-buy-it", "custom-buy-it-", "default-rest", "error", "push", "reply"]);
        assert_eq!(
            messages["custom-buy-it"]["payload"],
            json!({"type": "object", "required": ["a"], "properties":
                {"a": {"type": "object", "required": ["b"], "properties": {"b": {"const": "buy"}}}}})
        );
        let summary = messages["custom-buy-it-"]["summary"].as_str().expect("a text");
        assert!(summary.contains(r#"{"not":{"equal":{"path":"$.x","value":null}}}"#), "{summary}");
        assert_eq!(made["channels"]["endpoint"]["address"], "/shop/{country}/{rest}");
        let replies = &made["operations"]["send-custom-buy-it"]["reply"]["messages"];
        assert_eq!(replies, &json!([{"$ref": "#/channels/endpoint/messages/reply"}]));
        let server = &made["servers"]["n-1"];
        assert_eq!(server["host"], "127.0.0.1:8081");
        assert_eq!((&server["protocol"], &server["pathname"]), (&json!("wss"), &json!("/ws")));
    }

    #[test]
    fn a_schema_keeps_its_references_to_itself() {
        let made = of(json!({"path": "/x", "routes": [{"type": "default", "name": "d", "schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/order",
            "$defs": {"order": {"enum": [{"$ref": "#"}], "items": {"$ref": "#"}}}}}]}));
        let schema = &made["components"]["schemas"]["default-d"];
        assert_eq!(
            made["components"]["messages"]["default-d"]["payload"],
            json!({"$ref": "#/components/schemas/default-d"})
        );
        assert_eq!(schema["$ref"], "#/components/schemas/default-d/$defs/order");
        let order = &schema["$defs"]["order"];
        assert_eq!(order, &json!({"enum": [{"$ref": "#"}], "items": {"$ref": "#/components/schemas/default-d"}}));
        assert!(schema.get("$schema").is_none());
    }

    #[test]
    fn how_clients_authenticate_is_a_security_scheme_without_secrets() {
        for (authentication, scheme) in [
            (
                json!({"mode": "apiKey", "keys": [{"id": "a", "key": "secret-1"}]}),
                json!({"type": "httpApiKey", "in": "header", "name": "X-Api-Key"}),
            ),
            (
                json!({"mode": "apiKey", "in": "query", "name": "k", "keys": [{"id": "a", "key": "secret-1"}]}),
                json!({"type": "httpApiKey", "in": "query", "name": "k"}),
            ),
            (
                json!({"mode": "basic", "username": "a", "password": "secret-1"}),
                json!({"type": "http", "scheme": "basic"}),
            ),
            (
                json!({"mode": "jwt", "issuer": "https://id.example", "requiredScopes": ["ws"]}),
                json!({"type": "http", "scheme": "bearer", "description": "An access token of https://id.example with the scopes ws"}),
            ),
        ] {
            let made = of(json!({"path": "/x", "authentication": authentication}));
            assert_eq!(made["components"]["securitySchemes"]["client"], scheme);
            assert_eq!(made["servers"]["n-1"]["security"], json!([{"$ref": "#/components/securitySchemes/client"}]));
            assert!(!made.to_string().contains("secret-1"));
        }
        assert_eq!(of(json!({"path": "/x"}))["servers"]["n-1"]["security"], json!([]));
    }

    #[test]
    fn what_comes_by_kafka_is_received_too() {
        let made = of(json!({"path": "/x",
            "sources": [{"type": "kafka", "topic": "t", "group": "g", "target": {"all": true}}],
            "routes": [{"type": "default", "name": "d", "backends": [
                {"type": "kafka", "topic": "t", "replyTopic": "answers"}]}]}));
        assert_eq!(made["components"]["messages"]["push"]["summary"], "What a service pushes, or writes to a topic");
        assert!(made["components"]["messages"]["reply"].is_object(), "{made}");
    }
}
