//! Accounts, members, log-ins and keys.

mod accept;
mod audit;
mod keys;
mod login;
mod members;
mod password;
mod refresh;
mod signing_keys;
mod support;
