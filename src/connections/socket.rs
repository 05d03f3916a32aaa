//! Drives one client's socket: [`FrameStream`] feeds the actor's context with bytes that the frame guard lets pass;
//! [`Driver`] is the one future per connection that polls the actor, writes the outbox and sees the close through.

use std::future::Future;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::error::PayloadError;
use actix_http::ws::Codec;
use actix_web_actors::ws::WebsocketContext;
use bytes::Bytes;
use futures::Stream;

use super::connection::{Connection, CONTROL_FRAMES_PER_SECOND_MAX, LINGER_BYTES_MAX};
use super::frame_guard::{FrameGuard, Room, Violation, FRAGMENTS_PER_MESSAGE_MAX};
use super::hub::Worker;
use super::session::Session;
use crate::close_code;
use crate::model::delivery::CloseCause;
use crate::model::limits::MESSAGE_BYTES_MAX;

/// Frames in front of the end of one message: its fragments, and control frames between them.
const FRAMES_BETWEEN_MAX: u32 = FRAGMENTS_PER_MESSAGE_MAX + CONTROL_FRAMES_PER_SECOND_MAX;

/// The client's bytes, guarded: a stream for the WebSocket context.
pub(super) struct FrameStream {
    connection: Rc<Connection>,
    /// The socket that it reads; another one is not for it.
    socket: u32,
    guard: FrameGuard,
    /// Read from the socket, but beyond the window: at most one read's worth.
    held: Option<Bytes>,
    done: bool,
    /// A violation was found: nothing more is read.
    stopped: bool,
    /// Bytes that have passed since the context last decoded: after a whole buffer it decodes before more is read.
    passed: usize,
}

impl FrameStream {
    fn new(connection: Rc<Connection>, early: Bytes) -> FrameStream {
        let max = connection.endpoint.current().settings.max_message_bytes;
        let held = (!early.is_empty()).then_some(early);
        FrameStream {
            socket: connection.socket_number(),
            connection,
            guard: FrameGuard::new(max),
            held,
            done: false,
            stopped: false,
            passed: 0,
        }
    }
}

impl Stream for FrameStream {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        if this.stopped || this.connection.is_away() || this.socket != this.connection.socket_number() {
            return Poll::Pending;
        }
        if this.passed >= Worker::READ_BYTES {
            // The context drains its stream before it decodes; without this pause a client that sends without end
            // would fill its memory.
            this.passed = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let window = this.connection.window_left();
        if window == 0 {
            this.connection.pause_reader();
            return Poll::Pending;
        }
        let bytes = match this.held.take() {
            Some(held) => held,
            None => match this.connection.poll_read(cx) {
                Poll::Pending => {
                    this.passed = 0;
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Some(bytes))) => bytes,
                // What came before it is still decoded: the client may have said that it leaves.
                Poll::Ready(Ok(None) | Err(_)) if this.connection.lose(CloseCause::lost()) => return Poll::Pending,
                Poll::Ready(Ok(None) | Err(_)) => {
                    this.done = true;
                    return Poll::Ready(None);
                }
            },
        };
        this.guard.set_max_message_bytes(this.connection.endpoint.current().settings.max_message_bytes);
        let room = Room { messages: window, controls: this.connection.control_frames_left() };
        let scan = this.guard.scan(&bytes, room);
        this.connection.messages_read(scan.messages);
        this.connection.control_frames_read(scan.controls);
        this.passed += bytes.len();
        if let Some(violation) = scan.violation {
            // What came before it is still decoded and served; then the driver closes.
            this.stopped = true;
            this.connection.violated(match violation {
                Violation::TooBig => close_code::TOO_BIG,
                Violation::TooManyFragments => close_code::TOO_MANY_FRAGMENTS,
                Violation::LongControlFrame => close_code::PROTOCOL_ERROR,
                Violation::TooManyControlFrames => close_code::TOO_MANY_CONTROL_FRAMES,
            });
        } else if scan.pass < bytes.len() {
            // A copy, so that a stalled connection does not pin the worker's whole read buffer.
            this.held = Some(Bytes::copy_from_slice(&bytes[scan.pass..]));
        }
        Poll::Ready(Some(Ok(bytes.slice(..scan.pass))))
    }
}

type ContextStream = Pin<Box<dyn Stream<Item = Result<Bytes, actix_web::Error>>>>;

fn context(connection: &Rc<Connection>, session: Session, early: Bytes) -> ContextStream {
    let codec = Codec::new().max_size(MESSAGE_BYTES_MAX); // the guard has the endpoint's own limit, which may change
    let stream = FrameStream::new(connection.clone(), early);
    Box::pin(WebsocketContext::with_codec(session, stream, codec))
}

/// The future that a connection lives in.
pub(super) struct Driver {
    connection: Rc<Connection>,
    /// The actor's context; dropped (and with it the actor) as soon as the connection closes.
    context: Option<ContextStream>,
    /// The close frame is out and our half of the socket shut; waiting for the client's half.
    lingering: bool,
    /// Bytes dropped meanwhile.
    lingered_bytes: usize,
}

impl Driver {
    pub(super) fn new(connection: Rc<Connection>, session: Session, early: Bytes) -> Driver {
        let context = Some(context(&connection, session, early));
        Driver { connection, context, lingering: false, lingered_bytes: 0 }
    }

    /// What the socket before has brought whole is decoded; the rest of it is not coming.
    fn end_of_socket(&mut self, cx: &mut Context<'_>) {
        // The actor decodes some frames at a time, and not each of them ends a message.
        for _ in 0..self.connection.undecoded() + FRAMES_BETWEEN_MAX / 16 {
            let Some(context) = &mut self.context else { break };
            if self.connection.undecoded() == 0 || matches!(context.as_mut().poll_next(cx), Poll::Ready(None)) {
                break;
            }
        }
        self.connection.give_up_undecoded();
    }

    /// Another socket: an actor of its own, which knows nothing of a frame that the old one has not ended, takes over the
    /// handler.
    fn start_over(&mut self, early: Bytes) {
        let connection = self.connection.clone();
        if connection.is_closing() {
            return;
        }
        let Some(mut events) = connection.handler_out_of(|| self.context = None) else { return };
        events.resumed();
        let supervisor = connection.worker.hub.supervisors.of(&connection.endpoint);
        let session = Session::new(connection.clone(), events, supervisor);
        self.context = Some(context(&connection, session, early));
    }

    fn run_actor(&mut self, cx: &mut Context<'_>) {
        while let Some(context) = &mut self.context {
            match context.as_mut().poll_next(cx) {
                Poll::Pending => {
                    // The actor decodes some at a time, and is awake until it has all.
                    let decoded = self.connection.undecoded() == 0;
                    if let Some(close) = decoded.then(|| self.connection.take_violation()).flatten() {
                        self.connection.close(CloseCause::gateway(close));
                    }
                    break;
                }
                Poll::Ready(Some(Ok(bytes))) => self.connection.queue_control(bytes),
                Poll::Ready(Some(Err(_)) | None) => {
                    self.connection.close(CloseCause::lost()); // the first cause counts: this is for an actor that gave none
                    self.context = None;
                }
            }
            if self.connection.is_closing() {
                self.context = None;
            }
        }
        if self.connection.is_closing() {
            self.context = None;
        }
    }

    /// Reads and drops what the client still sends, so that the close frame is not lost to a reset. A buffer at a time:
    /// whoever is closed for a flood must not hold up the others in the end.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.lingered_bytes > LINGER_BYTES_MAX {
            return Poll::Pending; // until the deadline
        }
        match self.connection.poll_read(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(discarded))) => {
                self.lingered_bytes += discarded.len();
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Ok(None) | Err(_)) => Poll::Ready(()),
        }
    }

    fn finish(&mut self) -> Poll<()> {
        self.connection.outlet.discard();
        self.connection.outlet.shutdown(Shutdown::Both);
        self.connection.worker.forget(&self.connection);
        Poll::Ready(())
    }
}

/// A panic in the actor's code must not leak the connection's place in the maps.
impl Drop for Driver {
    fn drop(&mut self) {
        self.context = None;
        let _done = self.finish();
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.connection.outlet.set_driver(cx.waker());
        if let Some(verdict) = this.connection.outlet.take_verdict() {
            this.connection.close(verdict);
        }
        if let Some(early) = this.connection.take_returned() {
            this.end_of_socket(cx);
            this.start_over(early);
        }
        this.run_actor(cx);
        if this.connection.past_close_deadline() || this.connection.is_closing() && this.connection.outlet.is_away() {
            return this.finish();
        }
        match this.connection.outlet.poll_flush(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) if this.connection.lose(CloseCause::lost()) => return Poll::Pending,
            Poll::Ready(Err(_)) => {
                this.connection.close(CloseCause::lost());
                this.context = None;
                return this.finish();
            }
            Poll::Ready(Ok(())) => {}
        }
        if !this.connection.is_closing() {
            return Poll::Pending;
        }
        if this.connection.cause().is_some_and(|cause| cause.code == 1006) {
            return this.finish();
        }
        if !this.lingering {
            this.lingering = true;
            this.connection.outlet.shutdown(Shutdown::Write);
        }
        match this.linger(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => this.finish(),
        }
    }
}
