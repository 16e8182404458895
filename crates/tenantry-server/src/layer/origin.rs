//! From where a request comes, for the audit log and for budgets.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request},
    http::HeaderMap,
    response::Response,
};
use tenantry::Network;
use tenantry_ops::Origin;

use crate::Config;
use tenantry::axum::RequestId;

#[derive(Clone)]
pub(super) struct Origins {
    trusted_proxies: Arc<[Network]>,
}

impl Origins {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            trusted_proxies: config.trusted_proxies.as_slice().into(),
        }
    }

    /// Puts the [`Origin`] into the request's extensions.
    pub(super) async fn find(self, mut request: Request, next: impl AsyncFnOnce(Request) -> Response) -> Response {
        let peer = request
            .extensions()
            .get::<ConnectInfo<SocketAddr>>()
            .map(|peer| peer.0.ip().to_canonical());
        let address = peer.map(|peer| self.client(peer, request.headers()));
        let request_id = request.extensions().get::<RequestId>().map(|id| id.as_str().to_owned());
        request.extensions_mut().insert(Origin { address, request_id });
        next(request).await
    }

    /// The last address in the chain that is no proxy of ours: everything before it is a claim of its sender's.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        let claims: Vec<_> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let chain = claims.join(",");
        let mut chain = chain.rsplit(',').map(str::trim);
        while self.trusted_proxies.iter().any(|proxy| proxy.contains(client)) {
            match chain.next().and_then(|address| address.parse::<IpAddr>().ok()) {
                Some(address) => client = address.to_canonical(),
                None => break,
            }
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &str) -> String {
        let origins = Origins {
            trusted_proxies: Arc::new(["10.0.0.0/8".parse().unwrap()]),
        };
        let headers = HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), forwarded.parse().unwrap())]);
        origins.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_a_configured_proxy_is_believed() {
        assert_eq!(client("192.0.2.7", "198.51.100.1"), "192.0.2.7");
        assert_eq!(client("10.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(
            client("10.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.1"),
            "198.51.100.1"
        );
        assert_eq!(client("10.0.0.1", "nonsense"), "10.0.0.1");
    }
}
