//! `wsgateway ws`: a console client.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Uri};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::api::encoded;
use super::trust::Trust;

/// A connection, in the clear or not.
trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

#[derive(Args)]
#[command(after_help = "Example:\n  wsgateway ws 'ws://127.0.0.1:8081/chat/lobby?name=ann'\n  > {\"text\": \"hello\"}")]
pub struct Ws {
    /// ws://HOST:PORT/PATH, or wss://
    url: String,
    /// Request header, NAME:VALUE; may be given several times
    #[arg(short = 'H', long = "header")]
    headers: Vec<String>,
    /// Offered subprotocol; may be given several times
    #[arg(long)]
    subprotocol: Vec<String>,
    /// Send this message first; may be given several times
    #[arg(short, long)]
    send: Vec<String>,
    /// Query parameter, NAME=VALUE, such as a token; may be given several times
    #[arg(long)]
    query: Vec<String>,
    #[command(flatten)]
    trust: Trust,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    exit_after: Option<u64>,
    /// End after so many received messages
    #[arg(long)]
    receive: Option<usize>,
}

impl Ws {
    pub fn run(self) -> anyhow::Result<()> {
        let longest = self.exit_after.map(Duration::from_secs);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ended = runtime.block_on(async {
            match longest {
                Some(longest) => tokio::time::timeout(longest, self.talk()).await.unwrap_or(Ok(())),
                None => self.talk().await,
            }
        });
        // A line that is being typed must not keep the process.
        runtime.shutdown_background();
        ended
    }

    fn request(&self) -> anyhow::Result<tokio_tungstenite::tungstenite::handshake::client::Request> {
        let mut url = self.url.clone();
        for parameter in &self.query {
            let (name, value) =
                parameter.split_once('=').with_context(|| format!("--query {parameter:?} is not NAME=VALUE"))?;
            url.push_str(&format!("{}{}={}", if url.contains('?') { '&' } else { '?' }, encoded(name), encoded(value)));
        }
        let mut request = url.as_str().into_client_request().with_context(|| self.url.clone())?;
        for header in &self.headers {
            let (name, value) =
                header.split_once(':').with_context(|| format!("header {header:?} is not NAME:VALUE"))?;
            request.headers_mut().append(HeaderName::try_from(name.trim())?, HeaderValue::from_str(value.trim())?);
        }
        if !self.subprotocol.is_empty() {
            let offered = HeaderValue::from_str(&self.subprotocol.join(", "))?;
            request.headers_mut().insert("sec-websocket-protocol", offered);
        }
        Ok(request)
    }

    async fn connect(&self, url: &Uri) -> anyhow::Result<Box<dyn Io>> {
        let host = url.host().context("names no host")?.trim_start_matches('[').trim_end_matches(']');
        let encrypted = url.scheme_str() == Some("wss");
        let io = TcpStream::connect((host, url.port_u16().unwrap_or(if encrypted { 443 } else { 80 }))).await?;
        io.set_nodelay(true)?;
        if !encrypted {
            return Ok(Box::new(io));
        }
        let name = ServerName::try_from(host.to_owned())?;
        Ok(Box::new(TlsConnector::from(self.trust.config()?).connect(name, io).await?))
    }

    async fn talk(self) -> anyhow::Result<()> {
        let request = self.request()?;
        let io = self.connect(request.uri()).await.with_context(|| self.url.clone())?;
        let connected = tokio_tungstenite::client_async(request, io).await;
        let (mut socket, _) = connected.map_err(|err| match err {
            Error::Http(answer) => {
                let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
                anyhow::anyhow!("{}: the gateway answered {} {body}", self.url, answer.status())
            }
            other => anyhow::Error::from(other).context(self.url.clone()),
        })?;
        eprintln!("connected to {}; each line is sent as one message, Ctrl-D ends", self.url);
        for message in &self.send {
            socket.send(Message::text(message.clone())).await?;
        }
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        let mut typing = true;
        let mut received = 0;
        loop {
            tokio::select! {
                line = lines.next_line(), if typing => match line? {
                    Some(line) if line.trim().is_empty() => {}
                    Some(line) => socket.send(Message::text(line)).await?,
                    // End of input: with --receive the rest is still waited for.
                    None if self.receive.is_some() => typing = false,
                    None => return Ok(socket.close(None).await?),
                },
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        println!("{text}");
                        received += 1;
                        if self.receive.is_some_and(|enough| received >= enough) {
                            return Ok(socket.close(None).await?);
                        }
                    }
                    Some(Ok(Message::Binary(data))) => println!("({} binary bytes)", data.len()),
                    Some(Ok(Message::Close(frame))) => {
                        let why = frame.map_or("without a code".to_owned(), |frame| format!("{} {}", frame.code, frame.reason));
                        eprintln!("closed: {why}");
                        return Ok(());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(err)) => return Err(err.into()),
                    None => return Ok(()),
                },
            }
        }
    }
}
