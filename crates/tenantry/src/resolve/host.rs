//! Which tenant a host names.

use tenantry_core::{Slug, SlugError};

/// What a request's host says about the tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum HostTenant {
    /// Nothing: one of the product's own hosts, or a domain that holds no tenants.
    None,
    /// The tenant with this slug.
    Slug(Slug),
    /// The tenant with this slug, if there is one: below any domain, labels mean other things too.
    Perhaps(Slug),
    /// A host below the tenants' domain that can be no tenant's.
    Nobody,
}

/// Stands among the domains for each one that is not named.
const ANY: &str = "*";

/// Reads `host` as a label before one of the `domains` (lower case, without a leading dot).
pub(super) fn host_tenant(host: &str, domains: &[String]) -> HostTenant {
    let host = normal(host);
    for domain in domains {
        if host == *domain {
            return HostTenant::None;
        }
        let Some(label) = host
            .strip_suffix(domain.as_str())
            .and_then(|label| label.strip_suffix('.'))
        else {
            continue;
        };
        return match label.parse() {
            Ok(slug) => HostTenant::Slug(slug),
            Err(SlugError::Reserved) => HostTenant::None,
            Err(_) => HostTenant::Nobody,
        };
    }
    match host.split_once('.').map(|(label, _)| label.parse()) {
        Some(Ok(slug)) if domains.iter().any(|domain| domain == ANY) => HostTenant::Perhaps(slug),
        _ => HostTenant::None,
    }
}

/// Without port and trailing dot, in lower case. Whoever writes a user before the host gets a host that matches nothing.
fn normal(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_before_the_domain_names_the_tenant() {
        let domains = ["example.com".to_owned(), "localhost".to_owned()];
        let slug = |text: &str| HostTenant::Slug(text.parse().expect(text));
        for (host, expected) in [
            ("acme.example.com", slug("acme")),
            ("ACME.Example.COM:8443", slug("acme")),
            ("acme.example.com.", slug("acme")),
            ("acme.localhost:8080", slug("acme")),
            ("example.com", HostTenant::None),
            ("www.example.com", HostTenant::None),
            ("app.example.com", HostTenant::None),
            ("acme.example.org", HostTenant::None),
            ("acmeexample.com", HostTenant::None),
            ("127.0.0.1:8080", HostTenant::None),
            ("[::1]:8080", HostTenant::None),
            ("", HostTenant::None),
            ("a.acme.example.com", HostTenant::Nobody),
            ("xn--cme-5cd.example.com", HostTenant::Nobody),
            ("user@acme.example.com", HostTenant::Nobody),
            ("acme..example.com", HostTenant::Nobody),
            ("acme.example.com:80:80", HostTenant::None),
        ] {
            assert_eq!(host_tenant(host, &domains), expected, "{host}");
        }
    }

    #[test]
    fn below_any_domain_a_label_is_perhaps_a_tenant() {
        let domains = ["example.com".to_owned(), ANY.to_owned()];
        let slug = |text: &str| text.parse().expect(text);
        for (host, expected) in [
            ("acme.example.com", HostTenant::Slug(slug("acme"))),
            ("acme.localhost:8080", HostTenant::Perhaps(slug("acme"))),
            ("acme.crm.example.org", HostTenant::Perhaps(slug("acme"))),
            ("www.example.org", HostTenant::None),
            ("localhost:8080", HostTenant::None),
            ("127.0.0.1:8080", HostTenant::None),
            ("[::1]:8080", HostTenant::None),
        ] {
            assert_eq!(host_tenant(host, &domains), expected, "{host}");
        }
    }
}
