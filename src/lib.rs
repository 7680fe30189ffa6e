//! Portcullis: a policy-driven gateway in front of MCP servers.

pub mod cli;
pub mod diagnostics;
pub mod egress;
pub mod engine;
pub mod gateway;
pub mod mcp;
pub mod oauth;
pub mod policy;
pub mod providers;
pub mod reload;
pub mod secret;
pub mod server;
pub mod stages;
pub mod telemetry;
