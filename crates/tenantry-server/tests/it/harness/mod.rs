//! What the tests speak: an app, its tenants, clients and answers.

mod answer;
mod app;
mod client;
mod log;

pub(crate) use answer::Answer;
pub(crate) use app::{App, Marked, PASSWORD, Tenant};
pub(crate) use client::Client;
pub(crate) use log::Log;
