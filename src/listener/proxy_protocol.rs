//! The PROXY protocol, versions 1 and 2: what a load balancer that passes on bytes says about the client, before the
//! client's first byte. <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>

use std::io;
use std::net::IpAddr;

use ppp::v2::{Addresses, Command, Type};
use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Addresses and the additions that balancers make take some hundred bytes.
const V2_BYTES_MAX: usize = 4096;
/// Of version 2: signature, command, family and length.
const V2_FIXED_BYTES: usize = 16;
/// The longest line of version 1, with its end.
const V1_BYTES_MAX: usize = 107;
/// No header is shorter: `PROXY UNKNOWN` and the end of the line.
const SHORTEST: usize = 15;
/// Of the addition about TLS: the client spoke it to the balancer.
const CLIENT_SSL: u8 = 0x01;

/// What the balancer says.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// None: it comes by itself, or does not know.
    pub client: Option<IpAddr>,
    /// The client spoke TLS to it.
    pub https: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("the socket ended before it: {0}")]
    Lost(#[from] io::Error),
    #[error("there is none")]
    Missing,
    #[error("it announces {0} bytes, at most {V2_BYTES_MAX} are read")]
    TooLong(usize),
    #[error("version 1: {0}")]
    V1(v1::BinaryParseError),
    #[error("version 2: {0}")]
    V2(v2::ParseError),
}

/// Reads the header and not a byte more.
pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Said, Fault> {
    let mut header = vec![0; SHORTEST];
    io.read_exact(&mut header).await?;
    if header.starts_with(v2::PROTOCOL_PREFIX) {
        header.push(io.read_u8().await?);
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if length > V2_BYTES_MAX {
            return Err(Fault::TooLong(length));
        }
        header.resize(V2_FIXED_BYTES + length, 0);
        io.read_exact(&mut header[V2_FIXED_BYTES..]).await?;
        return of_v2(&v2::Header::try_from(&header[..]).map_err(Fault::V2)?);
    }
    if !header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        return Err(Fault::Missing);
    }
    // Its end is known when it is there.
    while !header.ends_with(v1::PROTOCOL_SUFFIX.as_bytes()) && header.len() < V1_BYTES_MAX {
        header.push(io.read_u8().await?);
    }
    let header = v1::Header::try_from(&header[..]).map_err(Fault::V1)?;
    let client = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(v4) => Some(v4.source_address.into()),
        v1::Addresses::Tcp6(v6) => Some(IpAddr::from(v6.source_address).to_canonical()),
    };
    Ok(Said { client, https: false })
}

fn of_v2(header: &v2::Header<'_>) -> Result<Said, Fault> {
    let client = match header.addresses {
        // A health check of the balancer's own.
        _ if header.command == Command::Local => None,
        Addresses::IPv4(v4) => Some(v4.source_address.into()),
        Addresses::IPv6(v6) => Some(IpAddr::from(v6.source_address).to_canonical()),
        Addresses::Unspecified | Addresses::Unix(_) => None,
    };
    let mut https = false;
    for addition in header.tlvs() {
        let addition = addition.map_err(Fault::V2)?;
        if addition.kind == u8::from(Type::SSL) {
            https = addition.value.first().is_some_and(|flags| flags & CLIENT_SSL != 0);
        }
    }
    Ok(Said { client, https: https && client.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(bytes: &[u8]) -> Result<(Said, Vec<u8>), Fault> {
        let mut rest = bytes;
        let said = read(&mut rest).await?;
        Ok((said, rest.to_vec()))
    }

    fn of(client: &str, https: bool) -> Said {
        Said { client: Some(client.parse().unwrap()), https }
    }

    fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, body].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb];

    #[actix_rt::test]
    async fn reads_the_header_and_nothing_behind_it() {
        let (line, rest) = said(b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 443\r\nGET /").await.unwrap();
        assert_eq!((line, &rest[..]), (of("192.0.2.1", false), &b"GET /"[..]));
        let (line, _) = said(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n").await.unwrap();
        assert_eq!(line, of("2001:db8::1", false));
        let (line, rest) = said(b"PROXY UNKNOWN\r\nx").await.unwrap();
        assert_eq!((line, &rest[..]), (Said { client: None, https: false }, &b"x"[..]));
        let (binary, rest) = said(&[version_2(1, 0x11, &V4), b"GET".to_vec()].concat()).await.unwrap();
        assert_eq!((binary, &rest[..]), (of("192.0.2.1", false), &b"GET"[..]));
    }

    #[actix_rt::test]
    async fn additions_tell_of_tls_and_local_is_the_balancer_itself() {
        let ssl = |flags: u8| [&V4[..], &[0x20, 0, 5, flags, 0, 0, 0, 0]].concat();
        assert_eq!(said(&version_2(1, 0x11, &ssl(1))).await.unwrap().0, of("192.0.2.1", true));
        assert_eq!(said(&version_2(1, 0x11, &ssl(0))).await.unwrap().0, of("192.0.2.1", false));
        let unknown = [&V4[..], &[0xe4, 0, 2, 1, 2]].concat();
        assert_eq!(said(&version_2(1, 0x11, &unknown)).await.unwrap().0, of("192.0.2.1", false));
        assert_eq!(said(&version_2(0, 0x00, &[])).await.unwrap().0, Said { client: None, https: false });
        let mut mapped = [0; 36];
        mapped[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
        assert_eq!(said(&version_2(1, 0x21, &mapped)).await.unwrap().0, of("192.0.2.1", false));
    }

    #[actix_rt::test]
    async fn what_is_none_is_said_so() {
        assert!(matches!(said(b"GET / HTTP/1.1\r\n\r\n").await, Err(Fault::Missing)));
        assert!(matches!(said(b"PROXY").await, Err(Fault::Lost(_))));
        assert!(matches!(said(&[b"PROXY TCP4 ".to_vec(), vec![b'x'; 200]].concat()).await, Err(Fault::V1(_))));
        assert!(matches!(said(b"PROXY TCP4 192.0.2 10.0.0.1 1 2\r\n").await, Err(Fault::V1(_))));
        assert!(matches!(said(&version_2(1, 0x11, &[0; 5000])).await, Err(Fault::TooLong(5000))));
        assert!(matches!(said(&version_2(1, 0x11, &V4[..11])).await, Err(Fault::V2(_))));
        let cut = [&V4[..], &[0x20, 0, 50, 1]].concat();
        assert!(matches!(said(&version_2(1, 0x11, &cut)).await, Err(Fault::V2(_))));
        let mut version_3 = version_2(1, 0x11, &V4);
        version_3[12] = 0x31;
        assert!(matches!(said(&version_3).await, Err(Fault::V2(_))));
    }
}
