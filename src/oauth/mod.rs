//! OAuth as pure knowledge: bearer tokens, JWS, key sets, claims, URLs, challenges, metadata.
//!
//! This module opens no socket and knows no policy.

pub mod address;
pub mod bearer;
pub mod challenge;
pub mod claims;
pub mod client_auth;
pub mod client_metadata;
pub mod discovery;
pub mod fault;
pub mod form;
pub mod identity;
pub mod jwk;
pub mod jws;
pub mod key;
pub mod metadata;
pub mod redirect;
pub mod server_metadata;
pub mod signer;
pub mod strict;
pub mod url;

#[cfg(test)]
pub(crate) mod testing;
