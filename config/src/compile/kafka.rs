//! Kafka backends, and what sources have in common with them. Called by compile; imports model and document.

use crate::document::{self, Acks, Backend, Compression, HeaderMap, SaslMechanism};
use crate::findings::{member, Findings};
use crate::secrets;
use wsgateway_model::json_path::JsonPath;
use wsgateway_model::kafka::{
    KafkaAcks, KafkaCompression, KafkaKey, KafkaProtocol, KafkaReply, KafkaSecurity, KafkaSpec, Sasl,
};
use wsgateway_model::limits;
use wsgateway_model::secret::Secret;

use super::backends::too_many;
use super::text;

/// Compiles the Kafka backend at `path`.
pub fn compile(from: &Backend, path: &str, findings: &mut Findings) -> Option<KafkaSpec> {
    let headers = kafka_headers(from.headers.as_ref(), path, findings);
    let key = kafka_key(from.key.as_deref(), path, findings);
    check_servers(from.bootstrap_servers.as_deref(), path, findings);
    let security = security(from.security.as_ref(), path, findings);
    let reply = reply(from, path, findings);
    if from.retries_nr == Some(0) && matches!(from.acks, None | Some(Acks::All)) {
        findings.add(
            format!("{path}.retriesNr"),
            "must be at least 1 with acks \"all\" (an idempotent producer retries), is 0",
        );
    }
    let Some(topic) = &from.topic else {
        findings.add(path, "a kafka backend needs a \"topic\"");
        return None;
    };
    findings.take(format!("{path}.topic"), check_topic(topic))?;
    Some(KafkaSpec {
        topic: topic.clone(),
        bootstrap_servers: from.bootstrap_servers.clone(),
        acks: match from.acks {
            None | Some(Acks::All) => KafkaAcks::All,
            Some(Acks::Leader) => KafkaAcks::Leader,
            Some(Acks::None) => KafkaAcks::None,
        },
        retries: from.retries_nr,
        key: key?,
        headers,
        compression: match from.compression {
            None | Some(Compression::None) => KafkaCompression::None,
            Some(Compression::Gzip) => KafkaCompression::Gzip,
            Some(Compression::Zstd) => KafkaCompression::Zstd,
            Some(Compression::Lz4) => KafkaCompression::Lz4,
            Some(Compression::Snappy) => KafkaCompression::Snappy,
        },
        security,
        reply,
    })
}

/// Reports brokers that are none.
pub fn check_servers(servers: Option<&str>, path: &str, findings: &mut Findings) {
    for server in servers.iter().flat_map(|servers| servers.split(',')) {
        findings.take(format!("{path}.bootstrapServers"), text::check_host_port(server.trim()));
    }
}

/// Kafka's own rule (org.apache.kafka.common.internals.Topic).
pub fn check_topic(topic: &str) -> Result<(), String> {
    let max = limits::KAFKA_TOPIC_BYTES_MAX;
    if topic.is_empty() || topic.len() > max {
        return Err(format!("must have 1–{max} characters, has {}", topic.len()));
    }
    let legal = topic.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    match legal && topic != "." && topic != ".." {
        true => Ok(()),
        false => Err("must have only letters, digits, '.', '_' and '-', and not be \".\" or \"..\"".to_owned()),
    }
}

fn kafka_key(from: Option<&str>, path: &str, findings: &mut Findings) -> Option<KafkaKey> {
    match from {
        None | Some("connectionId") => Some(KafkaKey::ConnectionId),
        Some("userId") => Some(KafkaKey::UserId),
        Some(text) if text.starts_with('$') => {
            findings.take(format!("{path}.key"), JsonPath::parse(text)).map(KafkaKey::Path)
        }
        Some(_) => {
            findings.add(format!("{path}.key"), "must be \"connectionId\", \"userId\" or a JSONPath");
            None
        }
    }
}

fn kafka_headers(from: Option<&HeaderMap>, path: &str, findings: &mut Findings) -> Vec<(String, Secret)> {
    let path = format!("{path}.headers");
    let mut headers = Vec::new();
    for (name, value) in from.into_iter().flatten() {
        let at = member(&path, name);
        if let Err(message) = check_header_name(name) {
            findings.add(at.as_str(), message);
        }
        if value.expose().len() > limits::HEADER_VALUE_BYTES_MAX {
            findings.add(at, format!("must have at most {} bytes", limits::HEADER_VALUE_BYTES_MAX));
        }
        headers.push((name.clone(), value.clone()));
    }
    too_many(headers.len(), path, findings);
    headers
}

/// Where answers come from.
fn reply(from: &Backend, path: &str, findings: &mut Findings) -> Option<KafkaReply> {
    let Some(topic) = &from.reply_topic else {
        if from.correlation_header.is_some() {
            findings.add(format!("{path}.correlationHeader"), "needs a \"replyTopic\": nothing is answered without");
        }
        return None;
    };
    findings.take(format!("{path}.replyTopic"), check_topic(topic));
    let header = from.correlation_header.as_deref().unwrap_or(KafkaReply::CORRELATION_HEADER_DEFAULT);
    if let Err(message) = check_header_name(header) {
        findings.add(format!("{path}.correlationHeader"), message);
    }
    if header == KafkaReply::TOPIC_HEADER {
        findings.add(format!("{path}.correlationHeader"), "is set by the gateway");
    }
    for name in [header, KafkaReply::TOPIC_HEADER] {
        if from.headers.as_ref().is_some_and(|headers| headers.contains_key(name)) {
            findings.add(member(&format!("{path}.headers"), name), "is set by the gateway");
        }
    }
    Some(KafkaReply { topic: topic.clone(), correlation_header: header.to_owned() })
}

fn check_header_name(name: &str) -> Result<(), &'static str> {
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        Err("is no header name")
    } else if lower.starts_with("ce_") || matches!(lower.as_str(), "content-type" | "traceparent") {
        Err("is set by the gateway")
    } else {
        Ok(())
    }
}

/// How the brokers of the backend or source at `path` are reached.
pub fn security(from: Option<&document::KafkaSecurity>, path: &str, findings: &mut Findings) -> KafkaSecurity {
    let Some(from) = from else { return KafkaSecurity::default() };
    let path = format!("{path}.security");
    let protocol = match from.protocol {
        document::KafkaProtocol::Plaintext => KafkaProtocol::Plaintext,
        document::KafkaProtocol::Ssl => KafkaProtocol::Ssl,
        document::KafkaProtocol::SaslPlaintext => KafkaProtocol::SaslPlaintext,
        document::KafkaProtocol::SaslSsl => KafkaProtocol::SaslSsl,
    };
    let of_sasl = [
        ("saslMechanism", from.sasl_mechanism.is_some()),
        ("username", from.username.is_some()),
        ("password", from.password.is_some()),
    ];
    let of_tls = [
        ("ca", from.ca.is_some()),
        ("certificate", from.certificate.is_some()),
        ("privateKey", from.private_key.is_some()),
    ];
    for (field, given) in of_sasl {
        match (protocol.has_sasl(), given) {
            (true, false) => findings.add(path.as_str(), format!("{} needs the field {field:?}", protocol.as_str())),
            (false, true) => {
                findings.add(format!("{path}.{field}"), format!("does not belong to {}", protocol.as_str()));
            }
            _ => {}
        }
    }
    for (field, _) in of_tls.iter().filter(|(_, given)| *given && !protocol.has_tls()) {
        findings.add(format!("{path}.{field}"), format!("does not belong to {}", protocol.as_str()));
    }
    if from.certificate.is_some() != from.private_key.is_some() {
        findings.add(path.as_str(), "has either both of \"certificate\" and \"privateKey\" or neither");
    }
    for (field, text) in [("ca", &from.ca), ("certificate", &from.certificate)] {
        let pem = |text: &String| secrets::is_reference(text) || text.contains("-----BEGIN CERTIFICATE-----");
        if text.as_ref().is_some_and(|text| !pem(text)) {
            findings.add(format!("{path}.{field}"), "is no certificate in PEM (-----BEGIN CERTIFICATE-----)");
        }
    }
    let sasl = from.sasl_mechanism.zip(from.username.as_ref().zip(from.password.as_ref()));
    KafkaSecurity {
        protocol,
        sasl: sasl.map(|(mechanism, (username, password))| Sasl {
            mechanism: match mechanism {
                SaslMechanism::Plain => "PLAIN",
                SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
                SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            },
            username: username.clone(),
            password: password.clone(),
        }),
        ca: from.ca.clone(),
        certificate: from.certificate.clone().zip(from.private_key.clone()),
    }
}
