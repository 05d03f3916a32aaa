//! What somebody between two nodes sees of TLS, and what comes of meddling with it.

mod support;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use support::authority::{impostor, stranger, Authority, NAME};
use support::tls_nodes::*;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wsgateway_cluster::tcp::PeerTlsMode::{Optional, Required};
use wsgateway_cluster::tcp::{LinkRefusal, PeerTlsPem};
use wsgateway_cluster::{Channel, PeerAddress, PeerError};

/// Between two sockets, with TLS of its own to each side, and passes on what it reads.
async fn in_the_middle(to: String, pem: PeerTlsPem) -> (PeerAddress, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let through = PeerAddress { node_id: Some(2), addr: listener.local_addr().unwrap().to_string() };
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keep = heard.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let mut near = impostor(&pem).accept(near).await.unwrap();
            let far = TcpStream::connect(&to).await.unwrap();
            let name = ServerName::try_from(NAME).unwrap();
            let mut far = stranger(&pem, true, &TLS13).connect(name, far).await.unwrap();
            let (mut from_near, mut from_far) = ([0; 4_096], [0; 4_096]);
            loop {
                tokio::select! {
                    read = near.read(&mut from_near) => match read {
                        Ok(count @ 1..) => {
                            keep.lock().unwrap().extend_from_slice(&from_near[..count]);
                            let Ok(()) = far.write_all(&from_near[..count]).await else { break };
                            let Ok(()) = far.flush().await else { break };
                        }
                        _ => break,
                    },
                    read = far.read(&mut from_far) => match read {
                        Ok(count @ 1..) => {
                            let Ok(()) = near.write_all(&from_far[..count]).await else { break };
                            let Ok(()) = near.flush().await else { break };
                        }
                        _ => break,
                    },
                }
            }
        }
    });
    (through, heard)
}

/// It holds a certificate that nodes trust, and not the secret: it hears the challenge, passes it on, and has nothing.
#[tokio::test]
async fn a_node_certificate_alone_does_not_get_in_the_middle() {
    let (a, b) = (of_shared(1, Required), of_shared(2, Required));
    let (through, heard) = in_the_middle(b.addr.clone(), Authority::shared().issues()).await;
    let refused = echo(&a, &through).await;
    let told = matches!(&refused, Err(PeerError::Refused { reason, .. }) if reason.contains("between the two"));
    assert!(told, "{refused:?}");
    until_refused(&b, LinkRefusal::Handshake).await;
    let heard = heard.lock().unwrap().clone();
    assert!(heard.windows(4).any(|bytes| bytes == b"WSGC"), "it did read the handshake");
    assert_eq!(b.seen(), 0);
    assert_eq!(echo(&a, &b.peer()).await, Ok("x".into()), "without it there is no fault");
}

/// Passes on what does not begin like TLS, and keeps all that it passes on, of both directions.
async fn on_the_wire(to: String, cuts_tls_off: bool) -> (PeerAddress, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let through = PeerAddress { node_id: Some(2), addr: listener.local_addr().unwrap().to_string() };
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keep = heard.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let mut first = [0];
            near.peek(&mut first).await.unwrap();
            if cuts_tls_off && first[0] == 0x16 {
                continue;
            }
            let far = TcpStream::connect(&to).await.unwrap();
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            for (mut read, mut write) in [(near_read, far_write), (far_read, near_write)] {
                let keep = keep.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4_096];
                    while let Ok(count @ 1..) = read.read(&mut buffer).await {
                        keep.lock().unwrap().extend_from_slice(&buffer[..count]);
                        let Ok(()) = write.write_all(&buffer[..count]).await else { return };
                    }
                });
            }
        }
    });
    (through, heard)
}

#[tokio::test]
async fn tls_that_somebody_cuts_off_is_missed() {
    let (a, b) = (of_shared(1, Optional), of_shared(2, Optional));
    let (through, _) = on_the_wire(b.addr.clone(), true).await;
    let refused = echo(&a, &through).await;
    let told = matches!(&refused, Err(PeerError::Refused { reason, .. }) if reason.contains("both nodes speak TLS"));
    assert!(told, "{refused:?}");
    until_refused(&b, LinkRefusal::Stripped).await;
    assert_eq!(b.seen(), 0);
    let plain = node(2, None);
    let (through, _) = on_the_wire(plain.addr.clone(), true).await;
    assert_eq!(echo(&a, &through).await, Ok("x".into()), "to a node without TLS there is nothing to miss");
}

#[tokio::test]
async fn nothing_of_a_call_is_readable_on_the_wire() {
    let canary = Bytes::from_static(b"a word that nobody else would say");
    for (a, b, readable) in
        [(node(1, None), node(2, None), true), (of_shared(1, Required), of_shared(2, Required), false)]
    {
        let (through, heard) = on_the_wire(b.addr.clone(), false).await;
        for channel in [Channel::Control, Channel::Push] {
            let answer = a.transport.call(&through, channel, ECHO, canary.clone(), PLENTY).await;
            assert_eq!(answer, Ok(canary.clone()));
        }
        let heard = heard.lock().unwrap().clone();
        let found = heard.windows(canary.len()).filter(|bytes| *bytes == canary).count();
        assert_eq!(found, if readable { 4 } else { 0 });
        let ours = heard.windows(4).any(|bytes| bytes == b"WSGC");
        assert_eq!(ours, readable, "the handshake is under TLS too");
    }
}
