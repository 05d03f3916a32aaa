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
    /// The client has answered a ping.
    Ponged(Bytes),
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
    /// So many leading bytes are whole characters of UTF-8; text only.
    checked: usize,
}

impl Assembly {
    fn begin(text: bool, data: &[u8]) -> Assembly {
        Assembly { text, buffer: BytesMut::from(data), checked: 0 }
    }

    /// Looks at what has come since the last time: text that cannot become UTF-8 any more is not waited for to its end.
    fn is_sound_so_far(&mut self) -> bool {
        if !self.text {
            return true;
        }
        match simdutf8::compat::from_utf8(&self.buffer[self.checked..]) {
            Ok(more) => self.checked += more.len(),
            // A character that the next fragment may complete.
            Err(err) if err.error_len().is_none() => self.checked += err.valid_up_to(),
            Err(_) => return false,
        }
        true
    }

    fn ends_in_a_character(&self) -> bool {
        self.text && self.checked < self.buffer.len()
    }
}

impl SessionState {
    pub fn on_message(&mut self, message: Message) -> Action {
        match message {
            Message::Text(text) => Action::Text(text.into_bytes()),
            Message::Binary(data) => Action::Binary(data),
            Message::Continuation(item) => self.on_fragment(item),
            Message::Ping(payload) => Action::Pong(payload),
            Message::Pong(payload) => Action::Ponged(payload),
            Message::Nop => Action::Nothing,
            Message::Close(reason) => on_close(reason),
        }
    }

    fn on_fragment(&mut self, item: Item) -> Action {
        let last = match &item {
            Item::FirstText(data) | Item::FirstBinary(data) => {
                self.assembling = Some(Assembly::begin(matches!(item, Item::FirstText(_)), data));
                false
            }
            Item::Continue(data) | Item::Last(data) => {
                let Some(assembly) = &mut self.assembling else { return Action::Close(close_code::PROTOCOL_ERROR) };
                assembly.buffer.extend_from_slice(data);
                matches!(item, Item::Last(_))
            }
        };
        if !self.assembling.as_mut().is_some_and(Assembly::is_sound_so_far) {
            return Action::Close(close_code::NOT_UTF8);
        }
        if !last {
            return Action::Nothing;
        }
        match self.assembling.take() {
            None => Action::Close(close_code::PROTOCOL_ERROR),
            Some(assembly) if assembly.ends_in_a_character() => Action::Close(close_code::NOT_UTF8),
            Some(Assembly { text: true, buffer, .. }) => Action::Text(buffer.freeze()),
            Some(Assembly { buffer, .. }) => Action::Binary(buffer.freeze()),
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
    fn text_that_cannot_become_utf8_is_not_waited_for() {
        let mut state = SessionState::default();
        state.on_message(Message::Continuation(Item::FirstText(Bytes::from_static(b"ab\xe2\x82"))));
        let wrong = state.on_message(Message::Continuation(Item::Continue(Bytes::from_static(b"(more"))));
        assert_eq!(wrong, Action::Close(close_code::NOT_UTF8));
        let binary = state.on_message(Message::Continuation(Item::FirstBinary(Bytes::from_static(b"\xff\xfe"))));
        assert_eq!(binary, Action::Nothing);
        let whole = state.on_message(Message::Continuation(Item::Last(Bytes::from_static(b"\xff"))));
        assert_eq!(whole, Action::Binary(Bytes::from_static(b"\xff\xfe\xff")));
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
