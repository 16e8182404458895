//! Which isolation, server and region a plan gives.
