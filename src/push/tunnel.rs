//! Brings a client's handshake to the node that has its connection, and what the client sends from then on: a tunnel on a
//! connection of its own between the two nodes, since the socket's bytes must not stand in line with pushes. The near end
//! asks first, so that a handshake which leads nowhere stays where it is.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wsgateway_cluster::stream::{AcceptedStream, DialledStream};
use wsgateway_cluster::{Channel, NodeId, PeerAddress, PeerError, TunnelService};

use super::forward::kinds;
use super::locate::Location;
use super::Pushes;
use crate::model::resume::{Claim, NotResumed};

/// For the question, and again for the tunnel: a client waits for its handshake.
const DEADLINE: Duration = Duration::from_secs(2);
/// A head has 16 KiB at most, certificates too, and what a client sends right behind it comes with it.
const OPENING_BYTES_MAX: u32 = 64 * 1024;

/// What becomes of a handshake that belongs to another node.
pub enum Brought {
    /// That node reads on at the other end of this.
    There(DialledStream),
    /// It has no such connection, or is gone.
    Not(NotResumed),
    /// Nobody can say now.
    Unreachable(String),
}

/// A handshake as it was read, and who is behind it: what goes into a tunnel first.
#[derive(Debug, Serialize, Deserialize)]
pub struct Opening {
    pub claim: Claim,
    pub head: Vec<u8>,
    pub ip: IpAddr,
    pub host: Option<String>,
    pub https: Option<bool>,
    /// What the client has shown at the near end, which has verified it.
    pub certificates: Vec<Vec<u8>>,
}

/// The far end: takes what comes out of tunnels.
pub trait Arrivals: Send + Sync + 'static {
    fn arrive(&self, opening: Opening, io: AcceptedStream);
}

impl Pushes {
    /// Asks the node that has the connection, and opens a tunnel to it.
    pub async fn bring(&self, opening: &Opening) -> Brought {
        let peer = match self.locate(&opening.claim.token.connection) {
            Ok(Location::Peer(peer)) => peer,
            Ok(Location::Here) => return Brought::Not(NotResumed::Unknown),
            Ok(Location::Gone) => return Brought::Not(NotResumed::NodeLost),
            Err(err) => return Brought::Unreachable(err.to_string()),
        };
        match self.ask(&peer, &opening.claim).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Brought::Not(why),
            Err(err) if err.proves_absence() => return self.lost_or_just_back(&peer).await,
            Err(err) => return Brought::Unreachable(err.to_string()),
        }
        match tokio::time::timeout(DEADLINE, self.open(&peer, opening)).await {
            Ok(Ok(io)) => Brought::There(io),
            Ok(Err(reason)) => Brought::Unreachable(reason),
            Err(_elapsed) => Brought::Unreachable("it took too long".to_owned()),
        }
    }

    /// Links remember for a second that nobody answered at an address; a node that is up again is not lost.
    async fn lost_or_just_back(&self, peer: &PeerAddress) -> Brought {
        match tokio::time::timeout(DEADLINE, self.transport.open_tunnel(peer)).await {
            Ok(Err(err)) if err.proves_absence() => Brought::Not(NotResumed::NodeLost),
            Ok(Err(err)) => Brought::Unreachable(err.to_string()),
            Ok(Ok(_unused)) => Brought::Unreachable("its link is being opened again".to_owned()),
            Err(_elapsed) => Brought::Unreachable("it took too long".to_owned()),
        }
    }

    async fn ask(&self, peer: &PeerAddress, claim: &Claim) -> Result<Result<(), NotResumed>, PeerError> {
        let malformed = |err: postcard::Error| PeerError::Remote(err.to_string());
        let request = postcard::to_stdvec(claim).map_err(malformed)?;
        let answer = self.transport.call(peer, Channel::Control, kinds::RESUME, request.into(), DEADLINE).await?;
        postcard::from_bytes(&answer).map_err(malformed)
    }

    async fn open(&self, peer: &PeerAddress, opening: &Opening) -> Result<DialledStream, String> {
        let opening = postcard::to_stdvec(opening).map_err(|err| err.to_string())?;
        let length = u32::try_from(opening.len()).map_err(|err| err.to_string())?;
        let mut io = self.transport.open_tunnel(peer).await.map_err(|err| err.to_string())?;
        let opening = [&length.to_be_bytes()[..], &opening].concat();
        io.write_all(&opening).await.map_err(|err| err.to_string())?;
        io.flush().await.map_err(|err| err.to_string())?;
        Ok(io)
    }
}

/// Reads what goes into a tunnel first, and hands it on.
pub struct TunnelEnds(pub Arc<dyn Arrivals>);

impl TunnelService for TunnelEnds {
    fn accept(&self, from: NodeId, mut io: AcceptedStream) {
        let arrivals = self.0.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(DEADLINE, read_opening(&mut io)).await {
                Ok(Ok(opening)) => arrivals.arrive(opening, io),
                // One that only looks whether somebody is here sends nothing.
                Ok(Err(reason)) => tracing::debug!("a tunnel of node {from:016x}: {reason}"),
                Err(_elapsed) => tracing::warn!("a tunnel of node {from:016x} stayed empty"),
            }
        });
    }
}

async fn read_opening(io: &mut AcceptedStream) -> Result<Opening, String> {
    let length = io.read_u32().await.map_err(|err| err.to_string())?;
    if length > OPENING_BYTES_MAX {
        return Err(format!("{length} bytes announced, at most {OPENING_BYTES_MAX} are expected"));
    }
    let mut opening = vec![0; length as usize];
    io.read_exact(&mut opening).await.map_err(|err| err.to_string())?;
    postcard::from_bytes(&opening).map_err(|err| err.to_string())
}
