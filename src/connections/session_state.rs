//! What a connection does about each WebSocket message: pure, no IO. The actor performs the action it returns.

use actix_http::ws::{CloseReason, Item, Message, ProtocolError};
use bytes::{Bytes, BytesMut};

use crate::close_code::{self, CloseCode};

/// What the actor is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Text(Bytes),
    Binary(Bytes),
    Pong(Bytes),
    /// End the connection with this code.
    Close(CloseCode),
    /// The client has begun the close handshake; `None` when its frame had no code.
    ClosedByClient(Option<(u16, String)>),
    Nothing,
}

/// Assembly of fragmented messages. The frame guard has bounded their number and total size.
#[derive(Debug, Default)]
pub struct SessionState {
    assembling: Option<Assembly>,
}

#[derive(Debug)]
struct Assembly {
    text: bool,
    buffer: BytesMut,
}

impl SessionState {
    pub fn on_message(&mut self, message: Message) -> Action {
        match message {
            Message::Text(text) => Action::Text(text.into_bytes()),
            Message::Binary(data) => Action::Binary(data),
            Message::Continuation(item) => self.on_fragment(item),
            Message::Ping(payload) => Action::Pong(payload),
            Message::Pong(_) | Message::Nop => Action::Nothing,
            Message::Close(reason) => on_close(reason),
        }
    }

    fn on_fragment(&mut self, item: Item) -> Action {
        let (data, last) = match item {
            Item::FirstText(data) => {
                self.assembling = Some(Assembly { text: true, buffer: BytesMut::from(&data[..]) });
                return Action::Nothing;
            }
            Item::FirstBinary(data) => {
                self.assembling = Some(Assembly { text: false, buffer: BytesMut::from(&data[..]) });
                return Action::Nothing;
            }
            Item::Continue(data) => (data, false),
            Item::Last(data) => (data, true),
        };
        let Some(assembly) = &mut self.assembling else { return Action::Close(close_code::PROTOCOL_ERROR) };
        assembly.buffer.extend_from_slice(&data);
        if !last {
            return Action::Nothing;
        }
        let Some(Assembly { text, buffer }) = self.assembling.take() else {
            return Action::Close(close_code::PROTOCOL_ERROR);
        };
        if !text {
            Action::Binary(buffer.freeze())
        } else if simdutf8::basic::from_utf8(&buffer).is_err() {
            Action::Close(close_code::NOT_UTF8)
        } else {
            Action::Text(buffer.freeze())
        }
    }
}

/// The codec's errors as close codes. It reports text that is not UTF-8 as an IO error of kind `Other`, and reserved
/// bits as one of kind `InvalidData`.
pub fn on_protocol_error(error: &ProtocolError) -> CloseCode {
    match error {
        ProtocolError::Overflow => close_code::TOO_BIG,
        ProtocolError::Io(io) if io.kind() == std::io::ErrorKind::Other => close_code::NOT_UTF8,
        _ => close_code::PROTOCOL_ERROR,
    }
}

fn on_close(reason: Option<CloseReason>) -> Action {
    let Some(reason) = reason else { return Action::ClosedByClient(None) };
    let code: u16 = reason.code.into();
    // RFC 6455 §7.4: 1004–1006 and 1015 never travel; below 1000 and 1016–2999 are not for applications.
    let legal = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if legal {
        Action::ClosedByClient(Some((code, reason.description.unwrap_or_default())))
    } else {
        Action::Close(close_code::PROTOCOL_ERROR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assembles_fragments_into_one_text() {
        let mut state = SessionState::default();
        assert_eq!(state.on_message(Message::Continuation(Item::FirstText("{\"a".into()))), Action::Nothing);
        assert_eq!(state.on_message(Message::Ping("p".into())), Action::Pong("p".into()));
        assert_eq!(state.on_message(Message::Continuation(Item::Continue("\":".into()))), Action::Nothing);
        assert_eq!(state.on_message(Message::Continuation(Item::Last("1}".into()))), Action::Text("{\"a\":1}".into()));
    }

    #[test]
    fn checks_utf8_over_the_whole_of_a_fragmented_text() {
        let mut state = SessionState::default();
        let euro = "€".as_bytes();
        state.on_message(Message::Continuation(Item::FirstText(Bytes::copy_from_slice(&euro[..1]))));
        let whole = state.on_message(Message::Continuation(Item::Last(Bytes::copy_from_slice(&euro[1..]))));
        assert_eq!(whole, Action::Text("€".into()));
        state.on_message(Message::Continuation(Item::FirstText(Bytes::copy_from_slice(&euro[..1]))));
        let cut = state.on_message(Message::Continuation(Item::Last(Bytes::new())));
        assert_eq!(cut, Action::Close(close_code::NOT_UTF8));
    }

    #[test]
    fn refuses_close_codes_that_never_travel() {
        for (code, legal) in
            [(1000, true), (1005, false), (1006, false), (999, false), (2000, false), (3000, true), (4999, true)]
        {
            let action = on_close(Some(CloseReason { code: actix_http::ws::CloseCode::from(code), description: None }));
            assert_eq!(matches!(action, Action::ClosedByClient(_)), legal, "{code}");
        }
    }
}
