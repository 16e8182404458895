//! Somebody who sends requests.

use reqwest::{Method, header::HeaderMap};
use serde_json::Value;

use super::Answer;

#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    headers: HeaderMap,
}

impl Client {
    pub(crate) fn new(base: String) -> Self {
        // Two tests may run this at once; whoever is second finds the first one's provider, which is the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self {
            http: reqwest::Client::new(),
            base,
            headers: HeaderMap::new(),
        }
    }

    /// The same client with this header.
    pub(crate) fn with(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.insert(name, value.parse().expect("a header value"));
        client
    }

    /// The same client with this header once more.
    pub(crate) fn with_also(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.append(name, value.parse().expect("a header value"));
        client
    }

    /// The same client with this credential.
    pub(crate) fn bearer(&self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body.to_string())).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Posts an empty object, and gives the bytes of an answer that is no text.
    pub(crate) async fn post_for_bytes(&self, path: &str) -> Vec<u8> {
        let request = self
            .http
            .post(format!("{}{path}", self.base))
            .headers(self.headers.clone());
        let response = request
            .header("content-type", "application/json")
            .body("{}")
            .send()
            .await;
        let response = response.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        assert_eq!(response.status().as_u16(), 200, "{path}");
        let length = response.content_length();
        let bytes = response
            .bytes()
            .await
            .unwrap_or_else(|error| panic!("{path}: {error:?}"));
        assert_eq!(length, Some(bytes.len() as u64), "{path}");
        bytes.to_vec()
    }

    /// Sends whatever text as JSON.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        self.send_as(method, path, "application/json", body).await
    }

    pub(crate) async fn send_as(&self, method: Method, path: &str, content_type: &str, body: Option<String>) -> Answer {
        let request = format!("{method} {path}");
        let mut builder = self
            .http
            .request(method, format!("{}{path}", self.base))
            .headers(self.headers.clone());
        if let Some(body) = body {
            builder = builder.header("content-type", content_type).body(body);
        }
        let response = builder
            .send()
            .await
            .unwrap_or_else(|error| panic!("{request}: {error:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response
            .text()
            .await
            .unwrap_or_else(|error| panic!("{request}: {error:?}"));
        Answer {
            request,
            status,
            headers,
            text,
        }
    }
}
