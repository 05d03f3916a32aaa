//! Bytes of whoever dials a node's cluster port, or answers there. The first byte says which: a handshake (0), or the
//! frames of a link behind it, as pushes (1) or control (2). Nobody is let in, nothing larger than what came is made of
//! it, and requests are read or refused. Shared by the fuzz target and `tests/fuzz_corpus.rs`.

use wsgateway_cluster::tcp::untrusted;
use wsgateway_cluster::Channel;
use wsgateway_model::delivery::{ConnectionView, Labelling, PushOutcome, Selection, Tally};

pub fn check(data: &[u8]) {
    let [mode, bytes @ ..] = data else { return };
    let channel = match mode % 3 {
        0 => {
            assert!(!futures::executor::block_on(untrusted::proves(bytes)), "let in without the secret");
            return;
        }
        1 => Channel::Push,
        _ => Channel::Control,
    };
    let frames = futures::executor::block_on(untrusted::frames(bytes, channel));
    let payloads: Vec<_> = frames.into_iter().flatten().map(|(_, _, payload)| payload).collect();
    let read: usize = payloads.iter().map(|payload| payload.len()).sum();
    assert!(read <= bytes.len(), "{read} bytes of payload from {}", bytes.len());
    for payload in payloads {
        // Between the nodes of a cluster: whatever they are taken for, they are read or refused.
        let _ = postcard::take_from_bytes::<Selection>(&payload);
        let _ = postcard::from_bytes::<Labelling>(&payload);
        let _ = postcard::from_bytes::<PushOutcome>(&payload);
        let _ = postcard::from_bytes::<Tally>(&payload);
        let _ = postcard::from_bytes::<Option<ConnectionView>>(&payload);
    }
}
