//! The tests that need more than one module: real sockets, real processes, the built binary.
//!
//! One binary, so that it is linked once. Each suite is one file and one line here.

mod fakes;
mod sdk;
mod support;
mod yaml_language_server;
