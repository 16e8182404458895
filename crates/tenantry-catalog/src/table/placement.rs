//! Where tenants live.
