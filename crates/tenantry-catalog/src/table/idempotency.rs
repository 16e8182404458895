//! Repeated requests.
