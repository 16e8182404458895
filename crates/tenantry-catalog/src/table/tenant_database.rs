//! The databases that hold tenants' rows.
