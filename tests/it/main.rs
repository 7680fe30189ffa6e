//! The tests that need more than one module: real sockets, real processes, the built binary.
//!
//! One binary, so that it is linked once. Each suite is one file and one line here.

#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails says where")]
#![expect(unreachable_pub, reason = "the cast is public to its suites")]

mod admin;
mod browser;
mod cli;
mod credentials;
mod decisions;
mod demo;
mod examples;
mod fakes;
mod golden;
mod import;
mod issuers;
mod limits;
mod log;
mod mcp;
mod own;
mod promises;
mod reload;
mod replicas;
mod rules;
mod sdk;
mod sdk_oauth;
mod signin;
mod state;
mod story;
mod support;
mod tls;
mod tokens;
mod users;
mod wire;
mod yaml_language_server;
