//! The Model Context Protocol as pure knowledge: messages, operations, eras, lists, event streams.
//!
//! This module opens no socket, knows no policy and no identity. It reads strictly: what two parsers could read in two
//! ways is refused.

pub mod discover;
mod edits;
pub mod era;
pub mod error;
pub mod json;
pub mod list;
pub mod members;
pub mod message;
pub mod operation;
pub mod server;
pub mod sse;
pub mod uri;
