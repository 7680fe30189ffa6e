//! Portcullis: a policy-driven gateway in front of MCP servers.

pub mod diagnostics;
pub mod egress;
pub mod engine;
pub mod mcp;
pub mod oauth;
pub mod policy;
pub mod providers;
pub mod secret;
pub mod stages;
pub mod telemetry;
