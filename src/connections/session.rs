//! The actor of one connection: a thin shell. It hears of what changes the connection's state, asks
//! [`SessionState`] what to do and does it. It ends by closing; it is never restarted, its socket is gone.

use std::rc::Rc;

use actix::prelude::*;
use actix_http::ws::{Message as WsMessage, ProtocolError};
use actix_web_actors::ws::WebsocketContext;
use bytes::Bytes;

use super::connection::Connection;
use super::session_state::{on_protocol_error, Action, SessionState};
use super::supervisor::{EndpointSupervisor, Register, Unregister};
use crate::close_code::CloseCode;
use crate::model::delivery::{CloseCause, Initiator};

/// What the gateway does with a client's messages. One per connection, implemented above this room.
pub trait ClientEvents {
    /// One whole text message, UTF-8. Must lead to exactly one [`Connection::event_done`].
    fn text(&mut self, data: Bytes);
    /// One whole binary message. Likewise; an answer closes the connection.
    fn binary(&mut self, data: Bytes) -> Option<CloseCode>;
    /// The endpoint's rule of authentication is another one now.
    fn authentication_changed(&mut self);
    /// Its client has come back on another socket.
    fn resumed(&mut self);
    /// The connection has ended; called exactly once.
    fn closed(&mut self, cause: CloseCause);
}

/// A supervisor's word to a connection.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct CloseSession(pub CloseCode);

/// A supervisor's word to a connection: its credential is to be held against the endpoint's live version.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct Reauthenticate;

pub struct Session {
    connection: Rc<Connection>,
    /// None: it ends, or has ended.
    events: Option<Box<dyn ClientEvents>>,
    supervisor: Addr<EndpointSupervisor>,
    state: SessionState,
}

impl Session {
    pub fn new(
        connection: Rc<Connection>,
        events: Box<dyn ClientEvents>,
        supervisor: Addr<EndpointSupervisor>,
    ) -> Session {
        Session { connection, events: Some(events), supervisor, state: SessionState::default() }
    }

    fn perform(&mut self, action: Action) {
        if let Action::Text(_) | Action::Binary(_) = action {
            self.connection.message_decoded();
        }
        match action {
            Action::Text(data) => {
                if let Some(events) = &mut self.events {
                    events.text(data);
                }
            }
            Action::Binary(data) => {
                if let Some(code) = self.events.as_mut().and_then(|events| events.binary(data)) {
                    self.connection.close(CloseCause::gateway(code));
                }
            }
            // Not through the context, which writes later: answers keep the order of what they answer.
            Action::Pong(payload) => self.connection.pong(&payload),
            Action::Ponged(payload) => self.connection.outlet.ponged(&payload),
            Action::Close(code) => self.connection.close(CloseCause::gateway(code)),
            Action::ClosedByClient(reason) => {
                let (code, reason) = reason.unwrap_or((1005, String::new()));
                self.connection.close(CloseCause { code, reason, initiator: Initiator::Client });
            }
            Action::Nothing => {}
        }
    }
}

impl Actor for Session {
    type Context = WebsocketContext<Session>;

    fn started(&mut self, context: &mut Self::Context) {
        let facts = &self.connection.facts;
        let register = Register { key: facts.id.random, version: facts.version, session: context.address() };
        let connection = self.connection.clone();
        let supervisor = self.supervisor.send(register).into_actor(self);
        context.spawn(supervisor.map(move |answer, _, _| {
            // A supervisor that does not answer is being restarted: the connection could not be told anything.
            if answer.is_err() {
                connection.close(CloseCause::gateway(crate::close_code::INTERNAL));
            }
        }));
    }
}

impl StreamHandler<Result<WsMessage, ProtocolError>> for Session {
    fn handle(&mut self, item: Result<WsMessage, ProtocolError>, _: &mut Self::Context) {
        if self.connection.is_closing() {
            return;
        }
        let action = match item {
            Ok(message) => self.state.on_message(message),
            Err(error) => Action::Close(on_protocol_error(&error)),
        };
        self.perform(action);
    }

    fn finished(&mut self, context: &mut Self::Context) {
        self.connection.close(CloseCause::lost());
        context.stop();
    }
}

impl Handler<CloseSession> for Session {
    type Result = ();

    fn handle(&mut self, message: CloseSession, _: &mut Self::Context) {
        self.connection.close(CloseCause::gateway(message.0));
    }
}

impl Handler<Reauthenticate> for Session {
    type Result = ();

    fn handle(&mut self, _: Reauthenticate, _: &mut Self::Context) {
        if !self.connection.is_closing() {
            if let Some(events) = &mut self.events {
                events.authentication_changed();
            }
        }
    }
}

/// Clean-up hangs here, so that no way of ending, a panic included, leaks a registration or loses a disconnect.
impl Drop for Session {
    fn drop(&mut self) {
        let Some(events) = self.events.take() else { return };
        // Only this socket's actor ends: the next one's registers in its place.
        let Err(mut events) = self.connection.park(events) else { return };
        self.connection.close(CloseCause::gateway(crate::close_code::INTERNAL));
        self.supervisor.do_unregister(Unregister { key: self.connection.facts.id.random });
        let cause = self.connection.cause().unwrap_or_else(CloseCause::lost);
        events.closed(cause);
    }
}

/// Leaving never fails: a full mailbox takes one more of these small messages than its bound, since the entry must go.
trait Leave {
    fn do_unregister(&self, message: Unregister);
}

impl Leave for Addr<EndpointSupervisor> {
    #[allow(clippy::disallowed_methods)] // at most one per registered connection, so bounded by the connections
    fn do_unregister(&self, message: Unregister) {
        self.do_send(message);
    }
}
