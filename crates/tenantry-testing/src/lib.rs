//! Test support: a template cluster, a database per test, fault proxy, failpoints.
