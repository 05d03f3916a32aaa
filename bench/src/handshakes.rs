//! What authentication adds to a handshake: the same handshakes at endpoints with and without it, on one node, as
//! multiples of the node's CPU without. Tokens are signed beforehand, each handshake has its own; then all of them come
//! back, as clients do that reconnect.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair, ECDSA_P256_SHA256_FIXED_SIGNING, RSA_PKCS1_SHA256};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use serde_json::{json, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::client::{handshake_with, HANDSHAKE_LONGEST};
use crate::event_loop::EventLoop;
use crate::gateway;
use crate::http1::call;
use crate::process::cpu_seconds;
use crate::stats::Spread;
use crate::table::{Server, Table};
use crate::target::Target;

const PLAIN: &str = "no authentication";
const API_KEY: &str = "an-api-key-of-the-load-program";
const ISSUER: &str = "https://issuer.example";
/// From the commit of an endpoint to its being served.
const LIVE_LONGEST: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// Tokens of no round that counts.
const WARM_UP_ROUND: usize = 1_000_000;

/// A key pair and how it signs.
enum Signer {
    Rsa(Box<rsa::KeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
}

impl Signer {
    fn algorithm(&self) -> &'static str {
        match self {
            Signer::Rsa(_) => "RS256",
            Signer::Ecdsa(_) => "ES256",
        }
    }

    fn jwk(&self) -> anyhow::Result<Value> {
        match self {
            Signer::Rsa(pair) => {
                let der = pair.public_key().as_der()?;
                // RFC 8017 A.1.1: the modulus, then the exponent 65537 as an INTEGER of five bytes.
                let (der, exponent) = (der.as_ref(), 5);
                let modulus = &der[der.len() - exponent - 256..der.len() - exponent];
                Ok(json!({"kty": "RSA", "kid": self.algorithm(), "n": encode(modulus), "e": "AQAB"}))
            }
            Signer::Ecdsa(pair) => {
                // An uncompressed point: 4, x, y.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                Ok(json!({"kty": "EC", "crv": "P-256", "kid": self.algorithm(), "x": encode(x), "y": encode(y)}))
            }
        }
    }

    fn token(&self, number: usize) -> anyhow::Result<String> {
        let header = json!({"alg": self.algorithm(), "kid": self.algorithm(), "typ": "JWT"});
        let claims = json!({"iss": ISSUER, "aud": "bench", "sub": "subject", "jti": number,
            "exp": 4_000_000_000u64, "scope": "events.send events.receive", "name": "Somebody With A Name"});
        let message = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let random = SystemRandom::new();
        let signature = match self {
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature)?;
                signature
            }
            Signer::Ecdsa(pair) => pair.sign(&random, message.as_bytes())?.as_ref().to_vec(),
        };
        Ok(format!("{message}.{}", encode(&signature)))
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// One kind of handshake.
struct Load {
    name: &'static str,
    path: &'static str,
    shows: Shows,
}

enum Shows {
    Nothing,
    Key,
    /// A token of its own in each handshake.
    Tokens(Signer),
}

impl Load {
    /// The header lines of one round's handshakes.
    fn headers(&self, round: usize, count: usize) -> anyhow::Result<Vec<String>> {
        let header = |number| {
            Ok(match &self.shows {
                Shows::Nothing => String::new(),
                Shows::Key => format!("X-Api-Key: {API_KEY}\r\n"),
                Shows::Tokens(signer) => format!("Authorization: Bearer {}\r\n", signer.token(number)?),
            })
        };
        (round * count..(round + 1) * count).map(header).collect()
    }
}

/// The node and its endpoints, for all rounds.
pub struct Handshakes {
    target: Target,
    loads: Vec<Load>,
}

impl Handshakes {
    pub async fn start(binary: &Path, services: &EventLoop) -> anyhow::Result<Handshakes> {
        let rsa = Signer::Rsa(Box::new(rsa::KeyPair::generate(rsa::KeySize::Rsa2048)?));
        let ecdsa = Signer::Ecdsa(Box::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?));
        let keys = serve(services, json!({"keys": [rsa.jwk()?, ecdsa.jwk()?]}).to_string())?;
        let jwt = |algorithm| {
            json!({"mode": "jwt", "jwksUrl": format!("http://{keys}/keys"), "audience": "bench",
                "issuer": ISSUER, "algorithms": [algorithm], "requiredScopes": ["events.send"]})
        };
        let key = json!({"mode": "apiKey", "keys": [{"id": "bench", "key": API_KEY}]});
        let endpoint = |path: &str, authentication: Value| {
            json!({"path": path, "authentication": authentication,
                "routes": [{"type": "default", "name": "Default", "backends": [{"type": "echo"}]}]})
        };
        let target = gateway::start(binary, 1, &endpoint(gateway::PATH, json!({"mode": "none"}))).await?;
        let admin = target.pushes.first().context("a gateway has an admin listener")?.door.address;
        for (path, authentication) in [("/key", key), ("/rs256", jwt("RS256")), ("/es256", jwt("ES256"))] {
            let document = endpoint(path, authentication).to_string();
            let (status, answer) = call(admin, "POST", "/api/v1/endpoints", &document).await?;
            anyhow::ensure!(status == 201, "creating {path} was answered {status}: {answer}");
        }
        let loads = vec![
            Load { name: PLAIN, path: gateway::PATH, shows: Shows::Nothing },
            Load { name: "API key", path: "/key", shows: Shows::Key },
            Load { name: "JWT, RS256", path: "/rs256", shows: Shows::Tokens(rsa) },
            Load { name: "JWT, ES256", path: "/es256", shows: Shows::Tokens(ecdsa) },
        ];
        let made = Handshakes { target, loads };
        // Keys are fetched, threads and allocators have seen work.
        made.warm_up().await?;
        Ok(made)
    }

    async fn warm_up(&self) -> anyhow::Result<()> {
        for load in &self.loads {
            let header = load.headers(WARM_UP_ROUND, 1)?.remove(0);
            let deadline = Instant::now() + LIVE_LONGEST;
            while let Err(error) = handshake_with(self.target.websocket, load.path, &header).await {
                anyhow::ensure!(Instant::now() < deadline, "{}: {error:#}", load.name);
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// One round over all of them, with tokens that no round before has shown, and then with the same ones again.
    pub async fn round(
        &self,
        clients: &EventLoop,
        (round, count): (usize, usize),
        table: &mut Table,
    ) -> anyhow::Result<()> {
        let mut plain = None;
        for load in &self.loads {
            let headers = Arc::new(load.headers(round, count)?);
            let name = load.name.to_owned();
            let mut measured = vec![name.clone()];
            if matches!(load.shows, Shows::Tokens(_)) {
                measured.push(format!("{name}, the same tokens again"));
            }
            for name in measured {
                let before = cpu_seconds(self.target.owner_pid)?;
                let took = open_all(clients, self.target.websocket, load.path, headers.clone())
                    .await
                    .with_context(|| name.clone())?;
                let cpu = (cpu_seconds(self.target.owner_pid)? - before) / count as f64;
                table.add(Server::Gateway, &name, "CPU \u{b5}s per handshake", cpu * 1e6);
                table.add(Server::Gateway, &name, "median time, \u{b5}s", took * 1e6);
                let (base_cpu, base_time) = *plain.get_or_insert((cpu, took));
                if name != PLAIN {
                    table.add(Server::Gateway, &name, "CPU, multiple of none", cpu / base_cpu);
                    table.add(Server::Gateway, &name, "median time, multiple of none", took / base_time);
                }
            }
        }
        Ok(())
    }
}

/// Opens a connection for each set of headers and closes it when it is open, one after the other, so that the time is the
/// handshake's own. Answers the median time in seconds, from connecting to the node's answer.
async fn open_all(
    clients: &EventLoop,
    address: SocketAddr,
    path: &'static str,
    headers: Arc<Vec<String>>,
) -> anyhow::Result<f64> {
    let all = async move {
        let mut times = Vec::with_capacity(headers.len());
        for headers in headers.iter() {
            let began = Instant::now();
            let opened = tokio::time::timeout(HANDSHAKE_LONGEST, handshake_with(address, path, headers)).await;
            let opened = opened.context("handshake timed out")??;
            times.push(began.elapsed().as_secs_f64());
            drop(opened);
        }
        Ok(times)
    };
    let times = clients.run(all).await?;
    Spread::of(&times).map(|times| times.median).context("no handshakes were made")
}

/// Answers every request with `body`.
fn serve(services: &EventLoop, body: String) -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let accept = async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            // A request without a body fits one read; an empty one is somebody who has hung up.
            if stream.read(&mut [0; 4096]).await? > 0 {
                stream.write_all(answer.as_bytes()).await?;
            }
        }
    };
    services.handle.spawn(async move {
        let Err(error): std::io::Result<Infallible> = accept.await;
        eprintln!("the key set's server has ended: {error}");
    });
    Ok(address)
}
