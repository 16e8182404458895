//! Around the routes of an application: who asks, and the scope that the handler gets.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderName, Uri, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use tower::{Layer, Service};
use tracing::Instrument as _;

use super::{Problem, RequestLog, limit};
use crate::{Credentials, ErrorKind, HeaderField, Tenantry, Verified};

static TENANT_HEADER: HeaderName = HeaderName::from_static("x-tenant-id");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Resolves each request's tenant and member, and puts a [`Scope`](crate::Scope) into its extensions, where the
/// extractors of it and of [`Verified`] find it. A request that can't be resolved does not reach the handler.
///
/// Each request has an id, which the log and every refusal name: that of a layer around this one, else one of its own.
///
/// The address of the peer, on which belief in forwarded headers rests, comes from axum's [`ConnectInfo`].
#[derive(Clone)]
pub struct TenantLayer {
    tenantry: Tenantry,
}

impl TenantLayer {
    /// A layer that resolves with this handle. From here on this process counts among those that divide what plans give.
    pub fn new(tenantry: Tenantry) -> Self {
        tenantry.serve_requests();
        Self { tenantry }
    }
}

impl<S> Layer<S> for TenantLayer {
    type Service = TenantService<S>;

    fn layer(&self, inner: S) -> TenantService<S> {
        TenantService {
            tenantry: self.tenantry.clone(),
            inner,
        }
    }
}

/// What [`TenantLayer`] makes of a service.
#[derive(Clone)]
pub struct TenantService<S> {
    tenantry: Tenantry,
    inner: S,
}

impl<S> Service<Request> for TenantService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let tenantry = self.tenantry.clone();
        // The service that is ready goes into the future; its clone takes its place.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            // A layer around this one writes every refusal with its own id.
            if request.extensions().get::<RequestLog>().is_some() {
                return Ok(serve(&tenantry, &mut inner, request).await);
            }
            let log = RequestLog::begin(&mut request);
            let mut response = serve(&tenantry, &mut inner, request).instrument(log.span()).await;
            log.sign(&mut response);
            Ok(response)
        })
    }
}

async fn serve<S>(tenantry: &Tenantry, inner: &mut S, request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let (mut parts, body) = request.into_parts();
    let resolved: Result<Verified, _> = tenantry.resolve(&credentials(&parts)).await;
    match resolved {
        Ok(verified) => {
            let begun = Instant::now();
            let scope = tenantry.scope(verified);
            let tenant = scope.context().tenant;
            // Remembered with the tenant's home, where the handler's own call would look as well. What else is wrong with the
            // home, a handler may not need to know.
            let home = scope.schema_version().await;
            if let Some(log) = parts.extensions.get::<RequestLog>() {
                log.note_scope(&scope);
            }
            let (paced, admitted) = limit::admit(tenantry, &scope, &parts.method, begun).await;
            let mut response = match (home, admitted) {
                (_, Err(problem)) => problem.into_response(),
                (Err(error), _) if error.kind() == ErrorKind::TenantMigrating => Problem::from(error).into_response(),
                _ => {
                    parts.extensions.insert(scope);
                    let Ok(response) = inner.call(Request::from_parts(parts, body)).await;
                    response
                }
            };
            if let Some(paced) = paced {
                paced.mark(&mut response);
            }
            tenantry.meter().note(tenant, response.status(), begun.elapsed());
            response
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

/// What a request shows about who asks and for which tenant.
pub fn credentials(parts: &Parts) -> Credentials<'_> {
    Credentials {
        authorization: field(&parts.headers, &header::AUTHORIZATION),
        host: host(&parts.uri, &parts.headers),
        tenant: field(&parts.headers, &TENANT_HEADER),
        forwarded_host: field(&parts.headers, &FORWARDED_HOST),
        peer: parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|peer| peer.0.ip()),
    }
}

fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> HeaderField<'a> {
    HeaderField::from_values(headers.get_all(name).iter().map(|value| value.to_str().ok()))
}

/// The target's authority (HTTP/2, or a target in absolute form) and the header have to agree where both are there.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> HeaderField<'a> {
    let header = field(headers, &header::HOST);
    match (uri.authority(), header) {
        (None, header) => header,
        (Some(authority), HeaderField::Absent) => HeaderField::Once(authority.as_str()),
        (Some(authority), HeaderField::Once(host)) if authority.as_str().eq_ignore_ascii_case(host) => header,
        (Some(_), HeaderField::Once(_) | HeaderField::Unusable) => HeaderField::Unusable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_of(uri: &str, hosts: &[&str]) -> String {
        let mut request = http::Request::builder().uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        format!("{:?}", credentials(&parts).host)
    }

    #[test]
    fn two_hosts_that_disagree_are_none() {
        let once = |text: &str| format!("{:?}", HeaderField::Once(text));
        let unusable = format!("{:?}", HeaderField::Unusable);
        assert_eq!(host_of("/", &["a.example.com"]), once("a.example.com"));
        assert_eq!(host_of("http://a.example.com/", &[]), once("a.example.com"));
        assert_eq!(
            host_of("http://a.example.com/", &["A.example.com"]),
            once("A.example.com")
        );
        assert_eq!(host_of("http://a.example.com/", &["b.example.com"]), unusable);
        assert_eq!(host_of("/", &["a.example.com", "b.example.com"]), unusable);
        assert_eq!(host_of("http://user@a.example.com/", &["a.example.com"]), unusable);
    }
}
