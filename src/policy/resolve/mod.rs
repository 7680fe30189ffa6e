//! From what is written to what it means. Every problem is found before anything is given up.

pub mod across;
mod context;
mod expression;
mod installation;
mod limits;
mod provider;
mod rules;
mod service;
mod upstream;

pub use context::{Context, Dependency};
pub use installation::{Overrides, installation};
pub use service::{host, resource, service};
