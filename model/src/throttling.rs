//! The compiled `throttling` of a document: how much may come, and what happens to more. Made by config, read by throttle,
//! inbound and explain; imports gcra and json_path.

use std::net::IpAddr;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::gcra::Rate;
use super::json_path::JsonPath;

/// Limits of one endpoint.
#[derive(Debug, Clone)]
pub struct Throttling {
    pub max_connections: Option<u64>,
    pub connections_per_second: Option<Rate>,
    pub messages_per_second: Option<Rate>,
    pub per_connection: Option<Rate>,
    pub per_identity: Option<(IdentityKey, Rate)>,
    pub scope: Scope,
    pub on_exceeded: OnExceeded,
}

impl Throttling {
    /// False: every message passes unseen.
    pub fn limits_messages(&self) -> bool {
        self.messages_per_second.is_some() || self.per_connection.is_some() || self.per_identity.is_some()
    }
}

/// Whose limits they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Of all nodes together.
    Cluster,
    /// Of each node.
    Node,
}

impl Scope {
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Cluster => "cluster",
            Scope::Node => "node",
        }
    }
}

/// What happens to a message above a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExceeded {
    /// An error frame to its client, an error event to the error route.
    Reject,
    /// Counted and forgotten.
    Drop,
    /// Its connection is closed with 1008.
    Close,
}

impl OnExceeded {
    pub const fn as_str(self) -> &'static str {
        match self {
            OnExceeded::Reject => "reject",
            OnExceeded::Drop => "drop",
            OnExceeded::Close => "close",
        }
    }
}

/// One of the limits, by its field's name: also a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    MaxConnections,
    ConnectionsPerSecond,
    MessagesPerSecond,
    PerConnection,
    PerIdentity,
}

impl Limit {
    pub const fn as_str(self) -> &'static str {
        match self {
            Limit::MaxConnections => "maxConnections",
            Limit::ConnectionsPerSecond => "connectionsPerSecond",
            Limit::MessagesPerSecond => "messagesPerSecond",
            Limit::PerConnection => "perConnection",
            Limit::PerIdentity => "perIdentity",
        }
    }
}

/// What connections are the same identity by.
#[derive(Debug, Clone)]
pub enum IdentityKey {
    User,
    Ip,
    /// A value of the connection description.
    Path(JsonPath),
}

impl IdentityKey {
    /// The identity of a connection, as text that says of which kind it is. Who has no user, and no value at the path, is
    /// known by its address. `description` is only looked at for a path.
    pub fn identity<'d>(&self, user: Option<&str>, ip: IpAddr, description: impl FnOnce() -> &'d Value) -> String {
        let own = match self {
            IdentityKey::User => user.map(|user| format!("user {user}")),
            IdentityKey::Ip => None,
            IdentityKey::Path(path) => match path.first(description()) {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => Some(format!("{} {text}", path.as_str())),
                Some(other) => Some(format!("{} {other}", path.as_str())),
            },
        };
        own.unwrap_or_else(|| match ip.to_canonical() {
            IpAddr::V4(v4) => format!("ip {v4}"),
            // One customer's network: an address each for billions of identities would be free.
            IpAddr::V6(v6) => {
                let network = std::net::Ipv6Addr::from(u128::from(v6) >> 64 << 64);
                format!("ip {network}/64")
            }
        })
    }
}

/// An identity as a number that is the same on all nodes. Of SHA-256, so that nobody finds another identity's.
pub fn identity_hash(identity: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(identity.as_bytes()).into();
    u64::from_be_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn identities_and_what_they_fall_back_to() {
        let v4: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let v6: IpAddr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        let described = json!({"claims": {"tenant": "acme", "n": 7, "none": null}, "user": "ann"});
        let of = |key: &IdentityKey, user, ip| key.identity(user, ip, || &described);
        assert_eq!(of(&IdentityKey::User, Some("ann"), v4), "user ann");
        assert_eq!(of(&IdentityKey::User, None, v4), "ip 10.0.0.1");
        assert_eq!(of(&IdentityKey::Ip, Some("ann"), v6), "ip 2001:db8:1:2::/64");
        let path = |text| IdentityKey::Path(JsonPath::parse(text).unwrap());
        assert_eq!(of(&path("$.claims.tenant"), None, v4), "$.claims.tenant acme");
        assert_eq!(of(&path("$.claims.n"), None, v4), "$.claims.n 7");
        assert_eq!(of(&path("$.claims.none"), Some("ann"), v4), "ip 10.0.0.1");
        assert_eq!(of(&path("$.claims.absent"), Some("ann"), v4), "ip 10.0.0.1");
        assert_ne!(identity_hash("user ann"), identity_hash("user bob"));
    }
}
