//! What the gateway shows upstreams, each kind in one file. Keeping and renewing them is the same for all and belongs to
//! [`crate::engine::credential`].

pub mod assertion;
pub mod client_credentials;
pub mod exchange;
pub mod provider_token;
pub mod token_endpoint;
