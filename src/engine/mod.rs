//! What runs: snapshot, services, rules, decisions, limits, and the traits that the floors above implement.
//!
//! The engine knows neither YAML nor Pingora and opens no socket.

pub mod access;
pub mod authentication;
pub mod breaker;
pub mod clock;
pub mod counters;
pub mod credential;
pub mod decision;
pub mod desk;
pub mod documents;
pub mod fetch;
pub mod health;
pub mod issuing;
pub mod keyring;
pub mod limits;
pub mod provider;
pub mod revocations;
pub mod rotate;
pub mod routes;
mod seal;
pub mod service;
pub mod session;
pub mod snapshot;
pub mod stage;
pub mod standing;
pub mod store;
pub mod tasks;
pub mod token_cache;
pub mod transfer;
pub mod vault;
