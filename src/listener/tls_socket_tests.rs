//! Records and frames between two ends of a loopback connection with small buffers.

use std::sync::Arc;

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// The gateway's side and the client's, of a connection with small buffers in the kernel.
async fn pair() -> (TlsSocket, TlsStream<TcpStream>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let trusting = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let (client, server) = tokio::join!(socket.connect(listener.local_addr().unwrap()), listener.accept());
    let (server, _) = server.unwrap();
    socket2::SockRef::from(&server).set_send_buffer_size(4096).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let (client, server) = tokio::join!(
        TlsConnector::from(Arc::new(trusting)).connect(name, client.unwrap()),
        TlsAcceptor::from(Arc::new(config)).accept(server)
    );
    let (io, session) = server.unwrap().into_inner();
    (TlsSocket::new(io, session), client.unwrap())
}

async fn write_ready(socket: &TlsSocket) {
    futures::future::poll_fn(|cx| socket.tcp().poll_write_ready(cx)).await.unwrap();
}

/// A frame: its number, how long it is, and as many bytes as that, all alike.
fn numbered(number: u32, filler: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&number.to_be_bytes());
    frame.extend_from_slice(&(filler as u32).to_be_bytes());
    frame.resize(8 + filler, number as u8);
    frame
}

/// Like an outbox that drops what has not begun.
#[actix_rt::test]
async fn frames_arrive_whole_and_in_order_however_they_are_cut_and_what_has_not_begun_may_be_dropped() {
    for seed in 0..8 {
        let (socket, mut client) = pair().await;
        let mut random = StdRng::seed_from_u64(seed);
        let mut waiting: std::collections::VecDeque<Vec<u8>> = (0..400)
            .map(|number| {
                let filler =
                    *[0, 1, 2, 100, 5_000, 16_375, 16_376, 16_377, 40_000].get(random.random_range(0..9usize)).unwrap();
                numbered(number, filler)
            })
            .collect();
        let reading = actix_rt::spawn(async move {
            let mut all = Vec::new();
            let mut buffer = [0; 3_000];
            loop {
                match client.read(&mut buffer).await {
                    Ok(count @ 1..) => all.extend_from_slice(&buffer[..count]),
                    // A goodbye that found no room is not waited for.
                    Ok(0) => return all,
                    Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return all,
                    Err(err) => panic!("{err}"),
                }
            }
        });
        let (mut written_of_first, mut dropped, mut blocked) = (0, 0u32, 0u32);
        while let Some(first) = waiting.front() {
            let rest = &first[written_of_first..];
            let mut slices = vec![IoSlice::new(rest)];
            let more = random.random_range(0..16usize);
            slices.extend(waiting.iter().skip(1).take(more).map(|frame| IoSlice::new(frame)));
            match socket.try_write_vectored(&slices) {
                Ok(mut count) => {
                    assert!(count > 0);
                    while count > 0 {
                        let left = waiting[0].len() - written_of_first;
                        let of_first = count.min(left);
                        written_of_first += of_first;
                        count -= of_first;
                        if written_of_first == waiting[0].len() {
                            waiting.pop_front();
                            written_of_first = 0;
                        }
                    }
                }
                Err(err) => {
                    assert_eq!(err.kind(), io::ErrorKind::WouldBlock);
                    blocked += 1;
                    if random.random_bool(0.5) {
                        let unbegun = usize::from(written_of_first > 0);
                        if waiting.len() > unbegun {
                            waiting.remove(unbegun);
                            dropped += 1;
                        }
                        continue;
                    }
                    write_ready(&socket).await;
                }
            }
        }
        assert!(blocked > 0 && dropped > 0, "the client kept up: nothing was tried");
        socket.say_goodbye();
        drop(socket);
        let all = reading.await.unwrap();
        let (mut at, mut before, mut frames) = (0, None, 0);
        while at < all.len() {
            let number = u32::from_be_bytes(all[at..at + 4].try_into().unwrap());
            let filler = u32::from_be_bytes(all[at + 4..at + 8].try_into().unwrap()) as usize;
            assert!(before.is_none_or(|before| before < number), "seed {seed}: {number} after {before:?}");
            assert!(all[at + 8..at + 8 + filler].iter().all(|byte| *byte == number as u8), "seed {seed}: {number}");
            before = Some(number);
            at += 8 + filler;
            frames += 1;
        }
        assert_eq!(frames, 400 - dropped, "seed {seed}");
    }
}

#[actix_rt::test]
async fn what_is_sent_is_read_in_parts_and_the_end_is_seen() {
    let (socket, mut client) = pair().await;
    let sent: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let sending = sent.clone();
    let writing = actix_rt::spawn(async move {
        client.write_all(&sending).await.unwrap();
        client.shutdown().await.unwrap();
        // It has tickets that it has not read: to drop it now would be a reset.
        client
    });
    let mut received = BytesMut::new();
    loop {
        let mut part = Vec::new();
        let read = futures::future::poll_fn(|cx| socket.poll_read(cx, 777, |bytes| part.extend_from_slice(bytes)));
        let count = read.await.unwrap();
        assert_eq!(count, part.len());
        assert!(count <= 777);
        if count == 0 {
            break;
        }
        received.extend_from_slice(&part);
    }
    assert_eq!(received, sent);
    drop(writing.await.unwrap());
}

#[actix_rt::test]
async fn nonsense_is_an_error_and_not_an_end() {
    let (socket, client) = pair().await;
    let (mut bare, _session) = client.into_inner();
    bare.write_all(b"\x17\x03\x03\x00\x20nonsense, nonsense, nonsense, no").await.unwrap();
    let read = futures::future::poll_fn(|cx| socket.poll_read(cx, 777, |_| {}));
    assert_eq!(read.await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}
