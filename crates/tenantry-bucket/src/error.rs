//! Why a bucket can't be used.

use object_store::Error;

/// Why a bucket can't be used, and what its operator does about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// What is sent could be read on the way, and nobody said that it may be.
    #[error("{endpoint} is not encrypted: name it with https, or set AWS_ALLOW_HTTP=true where nobody else listens")]
    PlainHttp {
        /// Where the bucket is said to be.
        endpoint: String,
    },
    /// A setting can't be used.
    #[error("the settings of the bucket {bucket} can't be used: look at the variables AWS_… of this process")]
    Settings {
        /// Its name.
        bucket: String,
        /// Which one.
        #[source]
        source: Box<Error>,
    },
    /// There are no credentials, and the machine has no role that would give some.
    #[error(
        "there are no credentials for the bucket {bucket}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
         or give the machine a role that may list, read, write and delete there"
    )]
    NoCredentials {
        /// Its name.
        bucket: String,
        /// What was tried.
        #[source]
        source: Box<Error>,
    },
    /// The credentials open nothing there.
    #[error(
        "the bucket {bucket} refuses these credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to those of \
         somebody who may list, read, write and delete there, and AWS_REGION and AWS_ENDPOINT to where it is"
    )]
    Refused {
        /// Its name.
        bucket: String,
        /// What it answered.
        #[source]
        source: Box<Error>,
    },
    /// There is no such bucket.
    #[error("there is no bucket {bucket}: make it, or name another, or set AWS_REGION and AWS_ENDPOINT to where it is")]
    Missing {
        /// Its name.
        bucket: String,
        /// What was answered.
        #[source]
        source: Box<Error>,
    },
    /// The store failed otherwise.
    #[error("the object store failed")]
    Store(#[source] Error),
}

impl BucketError {
    /// What a failure of a bucket means.
    pub fn of(bucket: &str, source: Error) -> Self {
        let bucket = bucket.to_owned();
        // Only the text tells a bucket that is not there from an object that is not, and for a list it alone tells who was refused.
        let text = source.to_string();
        if is_of_the_machines_role(&text) {
            let source = Box::new(source);
            Self::NoCredentials { bucket, source }
        } else if is_refusal(&source, &text) {
            let source = Box::new(source);
            Self::Refused { bucket, source }
        } else if text.contains("<Code>NoSuchBucket</Code>") {
            let source = Box::new(source);
            Self::Missing { bucket, source }
        } else {
            Self::Store(source)
        }
    }
}

/// Without credentials in the settings the machine is asked for its role's, at an address that only clouds have.
fn is_of_the_machines_role(text: &str) -> bool {
    text.contains("/latest/api/token") || text.contains("/latest/meta-data/iam/security-credentials")
}

fn is_refusal(error: &Error, text: &str) -> bool {
    // The last two are how another region answers.
    const REFUSALS: [&str; 4] = [
        "status code: 401",
        "status code: 403",
        "<Code>AuthorizationHeaderMalformed</Code>",
        "incorrectly configured region",
    ];
    matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
        || REFUSALS.iter().any(|refusal| text.contains(refusal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> BucketError {
        let source = Error::Generic {
            store: "S3",
            source: text.into(),
        };
        BucketError::of("s3://files", source)
    }

    #[test]
    fn what_the_operator_can_mend_is_told_from_what_failed() {
        let answered = |status: &str, code: &str| {
            of(&format!(
                "Error performing list request: Error performing GET http://localhost/files?list-type=2 in 1ms \
                 - Server returned non-2xx status code: {status}: <Error><Code>{code}</Code></Error>"
            ))
        };
        for (status, code) in [
            ("403 Forbidden", "InvalidAccessKeyId"),
            ("401 Unauthorized", "AccessDenied"),
            ("400 Bad Request", "AuthorizationHeaderMalformed"),
        ] {
            let refused = answered(status, code);
            assert!(matches!(refused, BucketError::Refused { .. }), "{refused:?}");
            assert!(refused.to_string().contains("s3://files"), "{refused}");
        }
        let missing = answered("404 Not Found", "NoSuchBucket");
        assert!(matches!(missing, BucketError::Missing { .. }), "{missing:?}");
        let none = of("Error performing PUT http://169.254.169.254/latest/api/token in 9s, after 10 retries");
        assert!(matches!(none, BucketError::NoCredentials { .. }), "{none:?}");
        for failed in [
            answered("404 Not Found", "NoSuchKey"),
            answered("503 Slow Down", "SlowDown"),
        ] {
            assert!(matches!(failed, BucketError::Store(_)), "{failed:?}");
        }
    }
}
