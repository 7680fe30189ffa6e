//! From what is written to what it means. Every problem is found before anything is given up.

pub mod across;
mod admin;
mod clients;
mod context;
mod credential;
mod expression;
mod github;
mod installation;
mod issuing;
mod limits;
mod origins;
mod preset;
mod provider;
mod redirects;
mod rules;
mod scopes;
mod service;
mod sign_in;
mod store;
mod upstream;
mod users;

pub use context::{Context, Dependency};
pub use installation::{Overrides, installation};
pub use service::{host, resource, service};
