//! What happens around every request, from the outside in.

mod finish;
mod measure;
mod origin;
mod panic;
mod request_id;
mod settle;
mod timeout;

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{Config, life::Life};

pub(crate) use measure::describe_metrics;
pub(crate) use settle::settle;
pub(crate) use timeout::Cut;

/// Puts the layers around every route of the router, and around what no route knows.
pub(crate) fn around<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    config: &Config,
    cut: Cut,
    life: Life,
) -> Router<S> {
    let (origins, limits) = (origin::Origins::new(config), timeout::Limits::new(config, cut, life));
    let figures = (!config.unmeasured).then(measure::Figures::new);
    // One layer for all of them: each layer of its own clones and boxes everything below it with each request.
    let all = move |request: Request, next: Next| {
        let (origins, limits, figures) = (origins.clone(), limits.clone(), figures.clone());
        let handle = async move |request| next.run(request).await;
        let bound = async move |request| timeout::bound(limits, request, handle).await;
        let find = async move |request| origins.find(request, bound).await;
        let finish = async move |request| finish::finish(request, find).await;
        let measure = async move |request| match figures {
            Some(figures) => measure::measure(figures, request, finish).await,
            None => finish(request).await,
        };
        request_id::identify(request, measure)
    };
    router.layer(CatchPanicLayer::custom(panic::answer)).layer(from_fn(all))
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        extract::Request,
        http::StatusCode,
        response::Response,
        routing::get,
    };
    use serde_json::Value;
    use tokio::sync::watch;
    use tower::ServiceExt;

    use super::*;

    async fn ask(method: &str, path: &str) -> (Response, Value) {
        let (_cut, is_cut) = watch::channel(());
        let config = Config {
            request_timeout: std::time::Duration::from_millis(20),
            ..Config::default()
        };
        let router = Router::new()
            .route("/fine", get(|| async { "fine" }))
            .route("/panic", get(|| async { panic!("secret") as &str }))
            .route("/slow", get(std::future::pending::<&str>))
            .route(
                "/typed",
                get(|_: axum::extract::Query<std::collections::HashMap<String, u8>>| async {}),
            );
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-request-id", "from-client")
            .body(Body::empty());
        let response = around(router, &config, Cut(is_cut), Life::default())
            .oneshot(request.unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 10_000).await.unwrap();
        (
            Response::from_parts(parts, Body::empty()),
            serde_json::from_slice(&body).unwrap_or_default(),
        )
    }

    #[tokio::test]
    async fn every_refusal_is_a_problem_with_the_requests_id() {
        for (method, path, status, code) in [
            ("GET", "/unknown", StatusCode::NOT_FOUND, "not-found"),
            ("DELETE", "/fine", StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed"),
            ("GET", "/panic", StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            ("GET", "/slow", StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            ("GET", "/typed?n=x", StatusCode::BAD_REQUEST, "malformed-body"),
        ] {
            let (response, body) = ask(method, path).await;
            assert_eq!(
                (response.status(), &body["code"]),
                (status, &Value::from(code)),
                "{path}"
            );
            assert_eq!(body["status"], status.as_u16(), "{path}");
            assert_eq!(body["request_id"], "from-client", "{path}");
            assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
            assert!(
                !body.to_string().contains("secret") && !body.to_string().contains("u8"),
                "{body}"
            );
        }
    }

    #[tokio::test]
    async fn a_refused_method_says_which_are_known() {
        let (response, _) = ask("DELETE", "/fine").await;
        assert_eq!(response.headers()["allow"], "GET,HEAD");
    }

    #[tokio::test]
    async fn no_answer_may_be_cached() {
        let (response, _) = ask("GET", "/fine").await;
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["x-request-id"], "from-client");
    }
}
