//! What a request shows, free of any HTTP library.

use std::net::IpAddr;

/// One header of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HeaderField<'a> {
    /// It is not there.
    #[default]
    Absent,
    /// It is there once.
    Once(&'a str),
    /// It is there several times or is no text: nobody can say which value counts, so none does.
    Unusable,
}

impl<'a> HeaderField<'a> {
    /// A header from all of its values, `None` for one that is no text.
    pub fn from_values(mut values: impl Iterator<Item = Option<&'a str>>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(Some(value)), None) => Self::Once(value),
            _ => Self::Unusable,
        }
    }
}

impl<'a> From<Option<&'a str>> for HeaderField<'a> {
    fn from(value: Option<&'a str>) -> Self {
        value.map_or(Self::Absent, Self::Once)
    }
}

/// What a request shows about who asks and for which tenant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// `Authorization`.
    pub authorization: HeaderField<'a>,
    /// `Host`, or the authority of the request's target.
    pub host: HeaderField<'a>,
    /// `X-Tenant-ID`.
    pub tenant: HeaderField<'a>,
    /// `X-Forwarded-Host`, heeded from trusted proxies only.
    pub forwarded_host: HeaderField<'a>,
    /// The address at the other end of the connection.
    pub peer: Option<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_values_are_not_one() {
        let field = |values: &[Option<&'static str>]| HeaderField::from_values(values.iter().copied());
        assert_eq!(field(&[]), HeaderField::Absent);
        assert_eq!(field(&[Some("a")]), HeaderField::Once("a"));
        assert_eq!(field(&[Some("a"), Some("a")]), HeaderField::Unusable);
        assert_eq!(field(&[None]), HeaderField::Unusable);
    }
}
