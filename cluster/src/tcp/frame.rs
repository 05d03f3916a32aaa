//! Frames on the wire and the queue in front of a link's writer. Used by both ends of a link; imports `options` only.
//!
//! A frame is a 32-bit big-endian length, a postcard head – `(id, kind)` of a request, `(id, ok)` of an answer – and the
//! payload as it is. Payloads are not copied when they are read: a slice keeps its read buffer alive.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, OwnedSemaphorePermit, Semaphore};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::options::{frame_bytes_max, QueueBounds, HEAD_BYTES_MAX};
use crate::transport::Channel;

/// What one write call carries at most, when more is waiting.
const FLUSH_BYTES_MAX: usize = 64 << 10;
const FLUSH_MESSAGES_MAX: usize = 256;
/// A longer payload is written from where it is; below that, copying it beats another write call.
const COPY_BYTES_MAX: usize = 16 << 10;
/// One read takes in about as much as one flush of the other side.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// A frame waiting for the writer.
pub(super) struct Frame {
    id: u64,
    head: Head,
    payload: Bytes,
    /// Its share of the queue's bytes, given back when the frame is written or dropped.
    room: Option<OwnedSemaphorePermit>,
}

enum Head {
    Request { kind: u16 },
    Answer { ok: bool },
}

impl Frame {
    pub fn request(id: u64, kind: u16, payload: Bytes) -> Self {
        Self { id, head: Head::Request { kind }, payload, room: None }
    }

    pub fn answer(id: u64, ok: bool, payload: Bytes) -> Self {
        Self { id, head: Head::Answer { ok }, payload, room: None }
    }

    fn encode_head(&self, buffer: &mut BytesMut) -> io::Result<()> {
        let mut space = [0_u8; HEAD_BYTES_MAX];
        let head = match self.head {
            Head::Request { kind } => postcard::to_slice(&(self.id, kind), &mut space),
            Head::Answer { ok } => postcard::to_slice(&(self.id, ok), &mut space),
        }
        .map_err(io::Error::other)?;
        let length = u32::try_from(head.len() + self.payload.len()).map_err(io::Error::other)?;
        buffer.put_u32(length);
        buffer.put_slice(head);
        Ok(())
    }
}

/// Splits a frame into its head and its payload.
pub(super) fn decode<H: DeserializeOwned>(mut frame: BytesMut) -> io::Result<(H, Bytes)> {
    let (head, rest) = postcard::take_from_bytes::<H>(&frame)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a frame without a valid head"))?;
    let head_bytes = frame.len() - rest.len();
    frame.advance(head_bytes);
    Ok((head, frame.freeze()))
}

/// Frames of a link that has passed its handshake.
pub(super) fn read_frames<R: AsyncRead>(io: R, channel: Channel) -> FramedRead<R, LengthDelimitedCodec> {
    let codec = LengthDelimitedCodec::builder().max_frame_length(frame_bytes_max(channel)).new_codec();
    FramedRead::with_capacity(io, codec, READ_BUFFER_BYTES)
}

/// Why a frame did not get into a queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotQueued {
    Full,
    Closed,
}

/// The sending end of a queue bounded in messages and bytes.
pub(super) struct Queue {
    frames: mpsc::Sender<Frame>,
    room: Arc<Semaphore>,
    bytes_max: u32,
}

pub(super) fn queue(bounds: QueueBounds) -> (Queue, mpsc::Receiver<Frame>) {
    let (frames, receiver) = mpsc::channel(bounds.messages_max.max(1));
    let bytes_max = u32::try_from(bounds.bytes_max).unwrap_or(u32::MAX);
    let room = Arc::new(Semaphore::new(bytes_max as usize));
    (Queue { frames, room, bytes_max }, receiver)
}

impl Queue {
    /// Every frame costs its head too; one that is longer than the whole queue takes all of it.
    fn cost(&self, frame: &Frame) -> u32 {
        u32::try_from(frame.payload.len() + HEAD_BYTES_MAX).unwrap_or(u32::MAX).min(self.bytes_max)
    }

    /// Now or not at all.
    pub fn push(&self, mut frame: Frame) -> Result<(), NotQueued> {
        let cost = self.cost(&frame);
        frame.room = Some(self.room.clone().try_acquire_many_owned(cost).map_err(|_| NotQueued::Full)?);
        self.frames.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotQueued::Full,
            mpsc::error::TrySendError::Closed(_) => NotQueued::Closed,
        })
    }

    /// Waits for room: for answers, whose number is bounded by the requests in flight.
    pub async fn push_when_room(&self, mut frame: Frame) -> Result<(), NotQueued> {
        let cost = self.cost(&frame);
        frame.room = Some(self.room.clone().acquire_many_owned(cost).await.map_err(|_| NotQueued::Closed)?);
        self.frames.send(frame).await.map_err(|_| NotQueued::Closed)
    }
}

/// Writes what is queued, as much as is there in one go, and never waits for more. Returns when the queue is closed and
/// empty, or when the link fails. `still_wanted` is asked about each frame right before it is written.
pub(super) async fn write_frames<W: AsyncWrite + Unpin>(
    mut io: W,
    mut frames: mpsc::Receiver<Frame>,
    mut still_wanted: impl FnMut(u64) -> bool,
) -> io::Result<()> {
    let mut batch = Vec::with_capacity(FLUSH_MESSAGES_MAX);
    let mut buffer = BytesMut::with_capacity(FLUSH_BYTES_MAX + COPY_BYTES_MAX + 2 * HEAD_BYTES_MAX);
    while frames.recv_many(&mut batch, FLUSH_MESSAGES_MAX).await > 0 {
        for mut frame in batch.drain(..) {
            if !still_wanted(frame.id) {
                continue;
            }
            frame.encode_head(&mut buffer)?;
            if frame.payload.len() > COPY_BYTES_MAX {
                flush(&mut io, &mut buffer).await?;
                io.write_all(&frame.payload).await?;
            } else {
                buffer.put_slice(&frame.payload);
                if buffer.len() >= FLUSH_BYTES_MAX {
                    flush(&mut io, &mut buffer).await?;
                }
            }
            drop(frame.room.take());
        }
        flush(&mut io, &mut buffer).await?;
        // TLS may have encrypted more than the socket took so far; a bare socket has nothing to do here.
        io.flush().await?;
    }
    Ok(())
}

async fn flush<W: AsyncWrite + Unpin>(io: &mut W, buffer: &mut BytesMut) -> io::Result<()> {
    if !buffer.is_empty() {
        io.write_all(buffer).await?;
        buffer.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[test]
    fn queue_is_bounded_in_messages_and_in_bytes() {
        let (few, _frames) = queue(QueueBounds { messages_max: 2, bytes_max: 1 << 20 });
        assert_eq!(few.push(Frame::request(1, 1, Bytes::new())), Ok(()));
        assert_eq!(few.push(Frame::request(2, 1, Bytes::new())), Ok(()));
        assert_eq!(few.push(Frame::request(3, 1, Bytes::new())), Err(NotQueued::Full));
        let (small, mut frames) = queue(QueueBounds { messages_max: 100, bytes_max: 100 });
        assert_eq!(small.push(Frame::request(1, 1, vec![0; 60].into())), Ok(()));
        assert_eq!(small.push(Frame::request(2, 1, vec![0; 60].into())), Err(NotQueued::Full));
        drop(frames.try_recv());
        assert_eq!(small.push(Frame::request(3, 1, vec![0; 6_000].into())), Ok(()), "an empty queue takes any frame");
        drop(frames);
        assert_eq!(small.push(Frame::request(4, 1, Bytes::new())), Err(NotQueued::Closed));
    }

    #[tokio::test]
    async fn frames_arrive_as_written_and_cancelled_ones_do_not() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (queue, frames) = queue(QueueBounds { messages_max: 1_000, bytes_max: 1 << 20 });
        let sizes = [0, 1, COPY_BYTES_MAX, COPY_BYTES_MAX + 1, 100_000, 5];
        for (id, size) in sizes.into_iter().enumerate() {
            queue.push(Frame::request(id as u64, 7, vec![id as u8; size].into())).unwrap();
        }
        drop(queue);
        write_frames(near, frames, |id| id != 1).await.unwrap();
        let mut read = read_frames(far, Channel::Push);
        for (id, size) in sizes.into_iter().enumerate().filter(|(id, _)| *id != 1) {
            let frame = read.next().await.unwrap().unwrap();
            let (head, payload) = decode::<(u64, u16)>(frame).unwrap();
            assert_eq!(head, (id as u64, 7));
            assert_eq!(payload, vec![id as u8; size]);
        }
        assert!(read.next().await.is_none());
    }
}
