//! Clients that come back: what they show, the worker that their connection lives on, and the next socket for it. A way
//! around the connect route, not around filters and authentication: the token says which connection, the credential who
//! asks. Called by upgrade.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use actix_http::Request;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use wsgateway_cluster::stream::DialledStream;

use super::arrive;
use super::client_address::Caller;
use super::credential::Held;
use super::runtime::InboundWorker;
use super::upgrade::{self, Answer};
use crate::close_code;
use crate::connections::outbox::{frame, Opcode};
use crate::connections::Hub;
use crate::listener::ClientSocket;
use crate::model::live_endpoint::LiveEndpoint;
use crate::model::resume::{Claim, NotResumed, ResumeToken};
use crate::telemetry::metrics::ResumeLabels;

/// The query parameters, which are the gateway's own on endpoints with resume.
pub const PARAMETERS: [&str; 2] = ["resume", "received"];

/// What must be somewhere in the head of a client that comes back.
const SIGN: &[u8] = b"resume=";

thread_local! {
    /// A worker's thread belongs to one node for its life.
    static HERE: RefCell<Weak<InboundWorker>> = const { RefCell::new(Weak::new()) };
}

/// On a worker's thread, once.
pub fn set_worker(worker: &Rc<InboundWorker>) {
    HERE.set(Rc::downgrade(worker));
}

/// What a handshake says about an earlier connection.
#[derive(Clone, Copy, Debug)]
pub enum Returning {
    /// Nothing, or the endpoint has no such thing.
    No,
    With(Claim),
    /// It wanted to, and cannot.
    Not(NotResumed),
}

/// Where the connection is that a handshake wants.
pub enum Place {
    ThisWorker(Returning),
    AnotherWorker(Claim),
    AnotherNode(Claim),
}

/// A head that may have to be read again, elsewhere.
pub fn may_return(head: &[u8]) -> bool {
    head.windows(SIGN.len()).any(|part| part == SIGN)
}

/// Reads what a client shows. None: nothing.
fn shown(query: &[(String, String)]) -> Option<Result<Claim, NotResumed>> {
    let value = |wanted: &str| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let token: Option<ResumeToken> = value(PARAMETERS[0])?.parse().ok();
    let received = value(PARAMETERS[1]).and_then(|number| number.parse().ok());
    let claim = token.zip(received).map(|(token, received)| Claim { token, received });
    Some(claim.ok_or(NotResumed::Malformed))
}

/// Finds out where the handshake belongs. Nothing is known yet of who asks.
pub fn place(inbound: &InboundWorker, request: &Request) -> Place {
    let uri = &request.head().uri;
    let resumes = |endpoint: &LiveEndpoint| endpoint.current().resume.is_some();
    let query = upgrade::parse_query(uri.query());
    let shown = shown(&query).filter(|_| inbound.registry.find(uri.path()).is_some_and(|(found, _)| resumes(&found)));
    let claim = match shown {
        None => return Place::ThisWorker(Returning::No),
        Some(Err(why)) => return Place::ThisWorker(Returning::Not(why)),
        Some(Ok(claim)) => claim,
    };
    let (hub, id) = (&inbound.worker.hub, &claim.token.connection);
    if id.node != hub.node_id {
        return Place::AnotherNode(claim);
    }
    if id.generation != hub.generation {
        return Place::ThisWorker(Returning::Not(NotResumed::NodeLost)); // before it was started anew
    }
    match hub.examine(&claim) {
        Err(why) => Place::ThisWorker(Returning::Not(why)),
        Ok(()) if hub.worker_of(id.random) == inbound.worker.index => Place::ThisWorker(Returning::With(claim)),
        Ok(()) => Place::AnotherWorker(claim),
    }
}

/// A handshake on its way to the worker that has the connection.
pub struct Stray {
    pub io: ClientSocket,
    /// Its head, and what came behind.
    pub head: Bytes,
    pub caller: Caller,
}

/// Hands a socket over to the worker that has its connection, from any thread. One that cannot be is dropped: its client
/// tries again.
pub fn arrive(hub: &Hub, claim: Claim, stray: Stray) {
    let serve = Box::new(move || {
        let Some(inbound) = HERE.with_borrow(Weak::upgrade) else { return };
        actix_rt::spawn(arrive::accept_stray(inbound, stray, claim));
    });
    if let Err(overloaded) = hub.run_on_worker_of(claim.token.connection.random, serve) {
        tracing::debug!("a returning client is sent away: {overloaded}");
    }
}

/// What becomes of a handshake that belongs to another node.
pub enum Brought {
    /// That node reads on at the other end of this.
    There(DialledStream),
    Not(NotResumed),
    /// Nobody can say now.
    Unreachable(String),
}

/// The other nodes, to which clients can be brought.
pub trait OtherNodes: Send + Sync + 'static {
    fn bring(&self, claim: Claim, head: &[u8], caller: &Caller) -> BoxFuture<'static, Brought>;
}

/// Carries bytes between a client and the node that has its connection, until one of them ends or this node leaves: then
/// the client comes back by another.
pub async fn relay(hub: Arc<Hub>, mut client: ClientSocket, mut there: DialledStream) {
    tokio::select! {
        // That one of them broke is found out by the other: both are dropped.
        _ended = tokio::io::copy_bidirectional(&mut client, &mut there) => {}
        () = hub.own_moment_to_leave() => {}
    }
}

/// A client that is let back in.
pub struct Back {
    pub claim: Claim,
    /// What it has shown now.
    pub held: Held,
    pub answer: Answer,
    pub endpoint: String,
}

/// Answers it, and gives its connection the socket.
pub async fn open(inbound: Rc<InboundWorker>, mut io: ClientSocket, early: Bytes, back: Back) {
    let Back { claim, held, answer, endpoint } = back;
    let key = claim.token.connection.random;
    if let Err(err) = io.write_all(&answer.head()).await {
        // The connection finds that out too.
        tracing::debug!("returning client gone before the answer: {err}");
    }
    let resumed = inbound.worker.resume(&claim, io, early);
    if resumed.is_ok() {
        // Its driver, which asks for it, runs on this thread, after this.
        inbound.returned.borrow_mut().insert(key, held);
    }
    let outcome = if resumed.is_ok() { "resumed" } else { "overtaken" };
    inbound.metrics.resumes.get_or_create(&ResumeLabels { endpoint, outcome }).inc();
    if let Err(mut io) = resumed {
        // It ended in this moment, or another socket was faster: the client hears what is when it comes again.
        let close_code::CloseCode { code, reason } = close_code::RESTARTING;
        let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
        let mut last = BytesMut::from(&frame(Opcode::Close, &payload)[..]);
        if let Err(err) = io.write_all_buf(&mut last).await {
            tracing::debug!("returning client gone: {err}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::connection_id::ConnectionId;

    #[test]
    fn what_is_shown_is_all_there_or_malformed() {
        let token = ResumeToken::generate(ConnectionId::generate(1, 1)).reveal();
        let ask = |pairs: &[(&str, &str)]| {
            shown(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
        };
        assert!(ask(&[("q", "1"), ("received", "1")]).is_none());
        assert!(ask(&[("received", "7"), ("resume", &token)]).is_some_and(|claim| claim.unwrap().received == 7));
        for bad in [
            &[("resume", token.as_str())][..],
            &[("resume", &token), ("received", "-1")],
            &[("resume", &token), ("received", "")],
            &[("resume", "x"), ("received", "1")],
            &[("resume", ""), ("received", "1")],
        ] {
            assert!(ask(bad).is_some_and(|claim| claim.is_err_and(|why| why == NotResumed::Malformed)), "{bad:?}");
        }
    }
}
