//! The stable codes of everything that an HTTP request can be refused with.

use axum::http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident, $title:literal;)*) => {
        /// Why a request was refused. Clients branch on these texts, so they never change.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code, in the order of their statuses.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status that goes with the code, always 4xx or 5xx.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// The sentence for people that is the same for each occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The body is no JSON object, or is not declared as JSON.
    MalformedBody = "malformed-body", BAD_REQUEST, "The body is not the JSON object that this route reads";
    /// Neither the credential nor the header named a tenant.
    TenantUnresolved = "tenant-unresolved", BAD_REQUEST, "The request names no tenant";
    /// There is no credential.
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "The request carries no credential";
    /// The credential is forged, expired, revoked or made for something else.
    BadToken = "bad-token", UNAUTHORIZED, "The credential is not valid";
    /// E-mail and password don't belong together, or the account does not exist.
    BadCredentials = "bad-credentials", UNAUTHORIZED, "E-mail or password is wrong";
    /// The tenant has all the bytes of files that it may have.
    StorageFull = "storage-full", PAYMENT_REQUIRED, "The tenant has no room for this file";
    /// The tenant has as much as its plan gives, and can't add anything.
    PlanLimitReached = "plan-limit-reached", PAYMENT_REQUIRED, "The tenant has as much as its plan gives";
    /// The credential is valid, but does not allow this.
    Forbidden = "forbidden", FORBIDDEN, "The credential does not allow this";
    /// The header or the host names another tenant than the credential.
    TenantMismatch = "tenant-mismatch", FORBIDDEN, "The request names another tenant than its credential";
    /// The tenant is suspended or deleted.
    TenantSuspended = "tenant-suspended", FORBIDDEN, "The tenant is suspended";
    /// There is no such thing, or none that the caller may know of.
    NotFound = "not-found", NOT_FOUND, "There is nothing here";
    /// The path exists, the method does not.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "This path does not know the method";
    /// Another tenant has the slug, or one that looks the same.
    TenantSlugTaken = "tenant-slug-taken", CONFLICT, "The slug is taken";
    /// The e-mail has a membership in the tenant already.
    AlreadyMember = "already-member", CONFLICT, "This person is a member already";
    /// A unique value of the tenant's is there already.
    AlreadyExists = "already-exists", CONFLICT, "This value exists already";
    /// The tenant would be left without an owner.
    LastOwner = "last-owner", CONFLICT, "A tenant keeps at least one owner";
    /// The thing's state does not allow this now.
    Conflict = "conflict", CONFLICT, "The present state does not allow this";
    /// More bytes than the server reads.
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// A field is missing, has the wrong type or an impossible value.
    InvalidField = "invalid-field", UNPROCESSABLE_ENTITY, "A field is not valid";
    /// A field or parameter that this route does not know.
    UnknownField = "unknown-field", UNPROCESSABLE_ENTITY, "A field is not known";
    /// A field names something that does not exist in the tenant.
    InvalidReference = "invalid-reference", UNPROCESSABLE_ENTITY, "A field names something that does not exist";
    /// The same idempotency key came with another request.
    IdempotencyKeyReused = "idempotency-key-reused", UNPROCESSABLE_ENTITY, "The idempotency key belongs to another request";
    /// Too many requests.
    RateLimited = "rate-limited", TOO_MANY_REQUESTS, "Too many requests";
    /// A fault of ours; the log says which, under the request's id.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something went wrong on our side";
    /// A database can't be reached or all its connections are busy.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "The service is not available right now";
    /// The tenant is being provisioned or migrated.
    TenantMigrating = "tenant-migrating", SERVICE_UNAVAILABLE, "The tenant is being prepared";
    /// The tenant is changing its placement.
    TenantMoving = "tenant-moving", SERVICE_UNAVAILABLE, "The tenant is moving";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_mean_failures() {
        let mut texts: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
        assert!(
            Code::ALL
                .iter()
                .all(|code| code.status().is_client_error() || code.status().is_server_error())
        );
    }

    #[test]
    fn every_code_stands_in_the_documentation_with_its_status() {
        let documented = include_str!("../../../../docs/problems.md");
        for code in Code::ALL {
            let row = format!("| {} | `{}` |", code.status().as_u16(), code.as_str());
            assert!(documented.contains(&row), "{row}");
        }
    }
}
