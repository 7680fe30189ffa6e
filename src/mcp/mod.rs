//! The Model Context Protocol as pure knowledge: strict JSON-RPC, operations, eras, lists, events.
//!
//! This module opens no socket and knows no policy.

pub mod era;
pub mod json;
pub mod list;
pub mod message;
pub mod operation;
pub mod sse;
pub mod uri;
