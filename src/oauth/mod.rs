//! OAuth as pure knowledge: bearer tokens, JWS, key sets, claims, URLs, challenges, metadata.
//!
//! This module opens no socket and knows no policy.

pub mod bearer;
pub mod challenge;
pub mod claims;
pub mod identity;
pub mod jwk;
pub mod jws;
pub mod metadata;
pub mod redirect;
pub mod url;
