//! What each placement's migration ledger says, as last seen.
