//! Makes a TCP connection for awc: resolves the host, asks the rules about every address, connects to those that passed.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use actix_http::Uri;
use actix_rt::net::TcpStream;
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use futures::future::LocalBoxFuture;

use super::Denied;
use crate::model::egress::EgressRules;

/// Blocks; runs on a thread for that.
type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

#[derive(Clone)]
pub struct GuardedConnect {
    rules: Arc<EgressRules>,
    lookup: Lookup,
}

fn system_lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

impl GuardedConnect {
    pub fn new(rules: Arc<EgressRules>) -> GuardedConnect {
        GuardedConnect { rules, lookup: system_lookup }
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let (lookup, host) = (self.lookup, host.to_owned());
        let looked_up = actix_rt::task::spawn_blocking(move || lookup(&host, port)).await;
        let addresses = looked_up.map_err(|err| ConnectError::Io(err.into()))?;
        addresses.map_err(|err| ConnectError::Resolver(Box::new(err)))
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let mut refused = None;
        let mut failed = None;
        for address in self.addresses(host, port).await? {
            if let Err(why) = self.rules.check(host, address.ip()) {
                refused = Some(Denied { host: host.to_owned(), why });
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(socket) => {
                    socket.set_nodelay(true).map_err(ConnectError::Io)?;
                    return Ok(socket);
                }
                Err(err) => failed = Some(err),
            }
        }
        Err(match (failed, refused) {
            (Some(err), _) => ConnectError::Io(err),
            (None, Some(denied)) => ConnectError::Resolver(Box::new(denied)),
            (None, None) => ConnectError::NoRecords,
        })
    }
}

impl Service<ConnectInfo<Uri>> for GuardedConnect {
    type Response = Connection<Uri, TcpStream>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let socket = this.connect(info.hostname(), info.port()).await?;
            Ok(Connection::new(info.request().clone(), socket))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::egress::Refused;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn guarded(deny: &[&str], lookup: Lookup) -> GuardedConnect {
        let deny: Vec<_> = deny.iter().map(|text| (*text).to_owned()).collect();
        GuardedConnect { rules: Arc::new(EgressRules::parse(&[], &deny, false).unwrap()), lookup }
    }

    fn denied(err: &ConnectError) -> Option<&Denied> {
        match err {
            ConnectError::Resolver(err) => err.downcast_ref(),
            _ => None,
        }
    }

    /// A name server of two minds: the first answer is harmless, every later one is loopback.
    fn rebinding(_: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let harmless = ASKED.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(vec![SocketAddr::from((if harmless { [127, 0, 0, 77] } else { [127, 0, 0, 1] }, port))])
    }

    #[actix_rt::test]
    async fn the_address_that_was_checked_is_the_one_that_is_connected() {
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let guarded = guarded(&["127.0.0.1"], rebinding);
        let socket = guarded.connect("rebind.test", port).await.unwrap();
        assert_eq!(socket.peer_addr().unwrap().ip().to_string(), "127.0.0.77");
        for _ in 0..3 {
            let err = guarded.connect("rebind.test", port).await.unwrap_err();
            assert_eq!(denied(&err).map(|denied| &denied.why), Some(&Refused::Denied("127.0.0.1".into())));
        }
    }

    #[actix_rt::test]
    async fn of_several_addresses_only_those_that_may_be_called_are() {
        fn both(_: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            Ok(vec![SocketAddr::from(([169, 254, 169, 254], port)), SocketAddr::from(([127, 0, 0, 1], port))])
        }
        fn none(_: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            Ok(Vec::new())
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = guarded(&[], both).connect("two.test", port).await.unwrap();
        assert_eq!(socket.peer_addr().unwrap(), listener.local_addr().unwrap());
        let err = guarded(&["127.0.0.0/8"], both).connect("two.test", port).await.unwrap_err();
        assert!(denied(&err).is_some(), "{err:?}");
        let err = guarded(&[], none).connect("none.test", port).await.unwrap_err();
        assert!(matches!(err, ConnectError::NoRecords), "{err:?}");
        let err = guarded(&["::1"], none).connect("[::1]", port).await.unwrap_err();
        assert_eq!(denied(&err).map(|denied| denied.host.as_str()), Some("[::1]"));
    }
}
