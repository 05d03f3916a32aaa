//! The one way out over HTTP, for backends and for authentication servers: whom this node trusts over TLS, where it may
//! call, and clients that hold to both. Called by services; imports model.
//!
//! A connection is made here to the very address that was checked: names are resolved once for each connection, so what
//! a name server says next changes nothing. Redirects are not followed, and what an answer says about where to go is
//! never acted on.

mod connect;

use std::sync::Arc;
use std::time::Duration;

use awc::error::{ConnectError, SendRequestError};
use awc::{Client, Connector};
use rustls::ClientConfig;

use crate::model::egress::{EgressRules, Refused};

use connect::GuardedConnect;

/// What clients are made of. Cheap to clone.
#[derive(Clone)]
pub struct Egress {
    rules: Arc<EgressRules>,
    tls: Arc<ClientConfig>,
}

/// How a client makes and keeps connections.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// For resolving and the TCP connection, and once more for the TLS handshake.
    pub connect_within: Duration,
    /// A connection that was idle for so long is not used again.
    pub keep_alive: Duration,
    /// The same from its beginning on.
    pub lifetime: Duration,
    /// Connections of the client; 0: no limit.
    pub max: usize,
}

/// A host that may not be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} may not be called from this node: {why}")]
pub struct Denied {
    pub host: String,
    pub why: Refused,
}

/// Why a request was not answered, as far as the way out is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoWay {
    Denied(Denied),
    /// The other side is not who it should be, or does not speak TLS as it should.
    Tls(String),
}

impl Egress {
    /// `tls` has the authorities that are trusted and negotiates no protocol: HTTP/1.1 is spoken.
    pub fn new(rules: Arc<EgressRules>, tls: Arc<ClientConfig>) -> Egress {
        Egress { rules, tls }
    }

    pub fn rules(&self) -> &Arc<EgressRules> {
        &self.rules
    }

    /// A client for this thread.
    pub fn client(&self, connections: Connections) -> Client {
        let connector = Connector::new()
            .connector(GuardedConnect::new(self.rules.clone()))
            .rustls_0_23(self.tls.clone())
            .timeout(connections.connect_within)
            .handshake_timeout(connections.connect_within)
            .conn_keep_alive(connections.keep_alive)
            .conn_lifetime(connections.lifetime)
            .limit(connections.max);
        Client::builder().connector(connector).disable_timeout().disable_redirects().no_default_headers().finish()
    }
}

impl NoWay {
    /// None: another kind of failure.
    pub fn of(err: &SendRequestError) -> Option<NoWay> {
        match err {
            SendRequestError::Connect(ConnectError::Resolver(err)) => {
                err.downcast_ref::<Denied>().cloned().map(NoWay::Denied)
            }
            SendRequestError::Connect(ConnectError::Io(err)) => {
                err.get_ref()?.downcast_ref::<rustls::Error>().map(|err| NoWay::Tls(err.to_string()))
            }
            _ => None,
        }
    }
}
