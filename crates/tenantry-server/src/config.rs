//! What a server is told when it starts.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tenantry::Network;

/// Where to listen, and the bounds that keep one client from taking everything.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The most bytes of a body that are read.
    pub body_bytes_max: usize,
    /// How long a client may take to send the head of a request, and keep a connection without sending one.
    pub head_timeout: Duration,
    /// How long a request may take, its body included.
    pub request_timeout: Duration,
    /// How long the server goes on accepting after it was told to stop, while `/health/ready` says that it is not ready: as long as
    /// whoever spreads the requests takes to notice.
    pub drain_delay: Duration,
    /// How long requests that have begun may go on after that.
    pub shutdown_grace: Duration,
    /// Proxies whose `X-Forwarded-For` is believed. From anyone else the header is ignored.
    pub trusted_proxies: Vec<Network>,
    /// Requests are not counted and timed: what that costs, a benchmark measures.
    #[doc(hidden)]
    pub unmeasured: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Whoever wants the network to reach the server says so.
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            // The longest field of the reference application has 20,000 characters.
            body_bytes_max: 256 * 1024,
            // A head fits into one packet or two. What is longer is a broken network, or somebody who collects connections.
            head_timeout: Duration::from_secs(30),
            // Provisioning a tenant with a database of its own takes seconds, and migrations may make it longer.
            request_timeout: Duration::from_secs(120),
            // Nobody stands before a server unless somebody says so.
            drain_delay: Duration::ZERO,
            shutdown_grace: Duration::from_secs(10),
            trusted_proxies: Vec::new(),
            unmeasured: false,
        }
    }
}
