//! SQL text: quoting, DDL builders, catalog queries.
