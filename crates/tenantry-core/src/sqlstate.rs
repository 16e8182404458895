//! The SQLSTATEs that a tenant database raises for us, and those of PostgreSQL's that carry a meaning of ours.
//!
//! Class `TN` is in the range that the SQL standard leaves to implementations, and PostgreSQL does not use it.

/// The placement is out of date: look it up again and go there.
pub const PLACEMENT_OUT_OF_DATE: &str = "TN001";
/// The tenant is suspended.
pub const TENANT_SUSPENDED: &str = "TN002";
/// The tenant is moving, or not open yet at its new home: wait a moment.
pub const TENANT_MOVING: &str = "TN003";
/// The token was rejected: forged, expired, used, for another backend, or for another database.
pub const TOKEN_REJECTED: &str = "28000";
/// What a session that is bound otherwise than the call expects, or whose tenant was fenced after it was bound, gets;
/// the message then holds [`SENTENCE_PREFIX`]. The compiled functions can raise nothing else: an exception needs a
/// function call that would be paid by every statement, a cast of a sentence costs nothing until it fails.
pub const INVALID_TEXT: &str = "22P02";
/// Stands in each sentence of ours.
pub const SENTENCE_PREFIX: &str = "tenantry: ";
/// Begins the sentence of a session whose tenant was fenced after it was bound.
pub const FENCED_PREFIX: &str = "tenantry: fenced";
/// The sentence that a viewer's write gets.
pub const VIEWER_SENTENCE: &str = "tenantry: the role viewer may not write";
/// The sentence of a session that is bound otherwise than the call expects.
pub const NOT_BOUND_SENTENCE: &str = "tenantry: the session is not bound as this call expects";
