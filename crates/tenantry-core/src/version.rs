//! What a program and a tenant database have to agree on.

/// The version of what this program's bootstrap makes in a tenant database: the functions that its statements, its policies
/// and its migrations call. To be raised with every change of them.
///
/// A database with a lower one is brought up to date before it is used; one with a higher one belongs to a newer Tenantry.
pub const TENANT_DATABASE_VERSION: i32 = 10;
