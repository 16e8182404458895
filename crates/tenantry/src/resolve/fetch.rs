//! Fetching one JSON document that somebody else publishes.

use std::{net::IpAddr, sync::Arc, time::Duration};

use reqwest::{Client, Url, redirect::Policy};
use rustls_platform_verifier::BuilderVerifierExt as _;
use serde_json::Value;

/// A JWK set of dozens of keys has a tenth of this.
const BYTES_MAX: usize = 256 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches from one address, with bounds on time and size. Follows no redirects: the keys are where the configuration
/// says, not where a compromised page points.
pub(super) struct Fetcher {
    client: Client,
    url: Url,
}

impl Fetcher {
    pub(super) fn new(url: &str) -> Result<Self, String> {
        let url: Url = url.parse().map_err(|_| format!("{url} is no URL"))?;
        if !(url.scheme() == "https" || url.scheme() == "http" && is_this_machine(&url)) {
            return Err(format!("{url} is not https: anybody on the way could replace the keys"));
        }
        let client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .tls_backend_preconfigured(tls().map_err(|error| error.to_string())?)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { client, url })
    }

    pub(super) async fn fetch(&self) -> Result<Value, String> {
        let response = self.client.get(self.url.clone()).send().await;
        let mut response = response.map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("{} answered {}", self.url, response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
            if body.len() + chunk.len() > BYTES_MAX {
                return Err(format!("{} answered more than {BYTES_MAX} bytes", self.url));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|_| format!("{} did not answer JSON", self.url))
    }
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// With the provider named, so that an application need not have installed one.
fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth())
}
