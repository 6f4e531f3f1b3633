//! Requests to addresses that users name: to the public Internet, and nowhere else.
//!
//! Such a request is made from inside the network of the messenger, so it goes to public addresses only. The address that is checked is the
//! one that is connected to: names are resolved once for each connection, by [`Guard`], and a client that is built with
//! [`Reach::client`] has no other way to an address.

mod address;

use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use reqwest::{
    Client, ClientBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use tokio::net::lookup_host;
use url::{Host, Url};

use self::address::is_public;

/// Names that networks have inside, whatever they resolve to.
const PRIVATE_SUFFIXES: [&str; 7] =
    ["localhost", "local", "internal", "home.arpa", "lan", "svc", "cluster.local"];

/// Returns the addresses of a host.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// What may be reached.
#[derive(Clone)]
pub struct Reach {
    pub lookup: Lookup,
    pub address: fn(IpAddr) -> bool,
    pub port: fn(u16) -> bool,
}

impl Reach {
    /// Returns the public Internet by the names that the system resolves: ports 80 and 443 of public addresses.
    pub fn internet() -> Self {
        let lookup: Lookup = Arc::new(|host| {
            Box::pin(async move {
                let addresses = lookup_host((host.as_str(), 0)).await?;
                Ok(addresses.map(|address| address.ip()).collect())
            })
        });
        Self { lookup, address: is_public, port: |port| matches!(port, 80 | 443) }
    }

    /// Returns a client that connects to what may be reached, and follows no redirect.
    pub fn client(&self) -> ClientBuilder {
        Client::builder()
            .dns_resolver(Arc::new(Guard(self.clone())))
            // A proxy would resolve names by itself.
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            // No connection outlives its check.
            .pool_max_idle_per_host(0)
    }

    /// Reports whether the host of a URL may be reached, as far as the URL says. The addresses of a name are checked by [`Guard`].
    pub fn allows(&self, url: &Url) -> bool {
        match url.host() {
            None => false,
            Some(Host::Domain(name)) => !is_private_name(name),
            // A client connects to these without resolving anything.
            Some(Host::Ipv4(address)) => (self.address)(address.into()),
            Some(Host::Ipv6(address)) => (self.address)(address.into()),
        }
    }
}

/// Resolves names for connections, and lets those through that lead to public addresses only. A name with one address of
/// another kind is refused as a whole: which one is connected to is not for chance to decide.
pub struct Guard(pub Reach);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let Reach { lookup, address, .. } = self.0.clone();
        Box::pin(async move {
            let found = lookup(name.as_str().to_owned()).await?;
            if found.is_empty() {
                return Err(io::Error::from(io::ErrorKind::NotFound).into());
            }
            if !found.iter().copied().all(address) {
                return Err(NotPublic.into());
            }
            // The port is that of the URL.
            let found: Addrs = Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(found)
        })
    }
}

/// A name that leads to an address that is not public.
#[derive(Debug, thiserror::Error)]
#[error("not all addresses of the host are public")]
pub struct NotPublic;

impl NotPublic {
    /// Reports whether a request failed because of it.
    pub fn caused(error: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<Self>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

fn is_private_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    // A name without a dot is completed by the resolver, with the domain of the network.
    !name.contains('.')
        || PRIVATE_SUFFIXES.iter().any(|suffix| {
            name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
}
