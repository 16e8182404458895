//! Buckets of S3 and of what speaks as it does.

use std::{sync::Arc, time::Duration};

use object_store::{
    ClientConfigKey, ClientOptions,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    path::Path as ObjectPath,
};
use url::Url;

use crate::{Bucket, BucketError};

/// For so long nothing may come; a part of 8 MiB is on its way within it at 1.2 Mbit/s.
const SILENCE_MAX: Duration = Duration::from_secs(60);

pub(crate) fn open<K: AsRef<str>, V: Into<String>>(
    location: &str,
    settings: impl IntoIterator<Item = (K, V)>,
) -> Result<Option<Bucket>, BucketError> {
    let Some((bucket, prefix)) = parse(location) else {
        return Ok(None);
    };
    let name = format!("s3://{bucket}");
    let builder = builder(settings).with_bucket_name(bucket);
    if let Some(endpoint) = plain_endpoint(&builder) {
        return Err(BucketError::PlainHttp { endpoint });
    }
    match builder.build() {
        Ok(store) => Ok(Some(Bucket {
            name,
            objects: Arc::new(store),
            prefix,
        })),
        Err(source) => Err(BucketError::Settings {
            bucket: name,
            source: Box::new(source),
        }),
    }
}

/// A user, a port or a question in it would be passed over, so they are refused: whoever writes them means something by it.
fn parse(location: &str) -> Option<(String, ObjectPath)> {
    let url = Url::parse(location).ok()?;
    let is_plain = url.scheme() == "s3"
        && url.username().is_empty()
        && url.password().is_none()
        && url.port().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let bucket = url.host_str().filter(|bucket| is_plain && !bucket.is_empty())?;
    let prefix = ObjectPath::from_url_path(url.path()).ok()?;
    Some((bucket.to_owned(), prefix))
}

fn builder<K: AsRef<str>, V: Into<String>>(settings: impl IntoIterator<Item = (K, V)>) -> AmazonS3Builder {
    // The usual bound is one of 30 s on a whole answer, body and all: it cuts off whoever reads a large file slowly, and with the
    // retries used up the file ends there.
    let options = ClientOptions::new()
        .with_timeout_disabled()
        .with_read_timeout(SILENCE_MAX);
    let mut builder = AmazonS3Builder::new().with_client_options(options);
    for (name, value) in settings {
        let key: Result<AmazonS3ConfigKey, _> = name.as_ref().to_ascii_lowercase().parse();
        // Other programs have settings in the environment too.
        if let Ok(key) = key {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

/// The endpoint, where it is not encrypted and nobody said that it may be so: the client's own words for it name no setting.
fn plain_endpoint(builder: &AmazonS3Builder) -> Option<String> {
    let get = |key: AmazonS3ConfigKey| builder.get_config_value(&key);
    let endpoint = get(AmazonS3ConfigKey::S3Endpoint).or_else(|| get(AmazonS3ConfigKey::Endpoint))?;
    let allows = get(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp)).unwrap_or_default();
    // Another word than these is the builder's to refuse.
    let is_refused = ["", "0", "false", "off", "no", "n"].contains(&allows.to_ascii_lowercase().as_str());
    let is_plain = endpoint.to_ascii_lowercase().starts_with("http://");
    (is_plain && is_refused).then_some(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bucket_and_a_prefix_are_taken() {
        let parsed = |location: &str| parse(location).map(|(bucket, prefix)| (bucket, prefix.to_string()));
        for (location, bucket, prefix) in [
            ("s3://files", "files", ""),
            ("s3://files/", "files", ""),
            ("s3://my.files/production/eu/", "my.files", "production/eu"),
            ("s3://files/a%20b", "files", "a b"),
            ("s3://files/a b", "files", "a b"),
        ] {
            assert_eq!(
                parsed(location),
                Some((bucket.to_owned(), prefix.to_owned())),
                "{location}"
            );
        }
        for location in [
            "s3://",
            "s3:///x",
            "ftp://files",
            "s3://key:secret@files",
            "s3://files:9000/x",
            "s3://files/x?region=eu",
            "s3://files//x",
        ] {
            assert_eq!(parsed(location), None, "{location}");
        }
    }

    #[test]
    fn an_endpoint_without_encryption_has_to_be_allowed() {
        let open = |settings: &[(&str, &str)]| open("s3://files", settings.iter().copied());
        let plain = ("AWS_ENDPOINT", "http://localhost:9000");
        for settings in [vec![plain], vec![plain, ("AWS_ALLOW_HTTP", "false")]] {
            let refused = open(&settings).unwrap_err().to_string();
            assert!(
                refused.contains("http://localhost:9000") && refused.contains("AWS_ALLOW_HTTP=true"),
                "{refused}"
            );
        }
        for settings in [
            vec![plain, ("AWS_ALLOW_HTTP", "true")],
            vec![plain, ("AWS_ALLOW_HTTP", "1")],
            vec![("AWS_ENDPOINT", "https://localhost:9000")],
            // The one that counts where both are there.
            vec![plain, ("AWS_ENDPOINT_URL_S3", "https://localhost:9000")],
        ] {
            assert!(open(&settings).unwrap().is_some(), "{settings:?}");
        }
    }

    #[test]
    fn a_setting_that_can_not_be_used_names_the_bucket() {
        let refused = open("s3://files", [("AWS_ACCESS_KEY_ID", "half of them")]).unwrap_err();
        assert!(matches!(refused, BucketError::Settings { .. }), "{refused:?}");
        assert!(refused.to_string().contains("s3://files"), "{refused}");
    }

    #[test]
    fn whoever_reads_slowly_is_not_cut_off_unless_a_setting_says_so() {
        let timeout = |settings: &[(&str, &str)]| {
            builder(settings.iter().copied()).get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::Timeout))
        };
        assert_eq!(timeout(&[]), None);
        assert_eq!(timeout(&[("AWS_TIMEOUT", "5 seconds")]), Some("5 seconds".to_owned()));
    }
}
