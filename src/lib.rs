//! Portcullis is a gateway in front of MCP servers: one YAML policy per server says whose tokens count, what they open,
//! with which arguments and how often. It compiles the policies, and from then on no byte of a request reaches a server
//! unless token, message and rules all say so.
//!
//! This page is the map. Every module says at its top what it is for and what it may not know.
//!
//! # Floors
//!
//! A module uses lower floors only, and nothing beside it; `tests/architecture.rs` reads the sources and fails otherwise.
//!
//! ```text
//! 6  cli          the commands and their exit codes
//! 5  server       puts everything together: listeners, background work, signals
//!    gateway      the path of a request on Pingora: front filter, admission, relay, answers, audit
//!    reload       follows the files: watch, settle, load, compile, swap
//!    admin        metrics, status and a page for operators, on a listener of their own
//! 4  policy       from YAML to what runs; the only place that names YAML
//!    signin       the authorization server of a service: endpoints and pages; it knows no policy
//! 3  stages       optional steps at the edge, one file each: origin, CORS, method, content type
//!    providers    whoever vouches for tokens, one file each: oidc, jwks, hmac, introspection, api_key; own tokens
//!    credentials  what the gateway shows upstreams, one file each: client credentials, exchange, assertions
//!    stores       where the state of sign-in and tasks is kept and limits are counted together, one file each, one contract
//!    egress       every fetch; the only place that names the HTTP client
//! 2  engine       snapshot, services, rules, limits, decisions, and the traits that floor 3 implements; opens no socket
//! 1  mcp          the protocol: messages, operations, eras, lists, event streams
//!    oauth        tokens, keys, claims, challenges, metadata, and the rules of URLs
//! 0  diagnostics  problems of files, with place and help
//!    secret       secrets by reference, which nothing prints
//!    shared       equal values, held once
//!    telemetry    the audit record and the event log
//! ```
//!
//! # The path of a request
//!
//! One straight line. Whatever refuses, refuses with a [`Denial`](engine::decision::Denial), and one function writes it.
//!
//! ```text
//! front filter    one Host, one Authorization, one framing, no dot segments, a deadline for the head
//! address         who is asking, through trusted proxies; too many failures, and too many requests at once, end here
//! route           host and path to a service, or to an answer of the gateway's own (metadata, sign-in, health)
//! edge stages     origin, CORS, method, content type
//! authenticate    a token to an identity; what was verified is cached, what is decided never
//! read            the body, bounded, and only now
//! parse           strict JSON-RPC to an operation; headers and body must agree
//! authorize       rules to a permit, which nothing else can make
//! limits          rates and concurrency, together or none
//! upstream        wants the permit; the client's credentials stay behind
//! response        headers by list; lists cut by the code that decides calls
//! audit           one record: who, what, decision, reason, rule, generation
//! ```
//!
//! Authentication and authorization are fields of a [`Pipeline`](engine::service::Pipeline) and not stages: nobody can leave
//! them out or put them elsewhere. A request is judged by the [`Snapshot`](engine::snapshot::Snapshot) it began with.
//!
//! # Three forms of a policy
//!
//! | form | type | what it guarantees |
//! |---|---|---|
//! | written | [`policy::document`] | known keys only; the JSON Schema in `schema/` comes from these types and their comments |
//! | meant | [`policy::model`] | every name is resolved, every default filled; no text is left to parse |
//! | running | [`engine::snapshot`] | immutable, prepared, and without look-ups by name on the path of a request |
//!
//! [`policy::load`] goes from the first to the second and collects *all* problems before it gives up; [`policy::compile`]
//! goes from the second to the third and keeps what did not change. The unit is the file: a broken one leaves its service
//! as it was and holds up no other.
//!
//! # Where to add things
//!
//! - A **provider**: a file in [`providers`], its key in `policy/document/provider.rs`, its meaning in
//!   `policy/resolve/provider.rs`. `docs/extending.md` walks through one.
//! - A **stage**: a file in [`stages`] and one line in its list, whose order is the order of the path.
//! - A **key** of a policy: a documented field in [`policy::document`], its meaning in `policy/resolve`. The schema follows
//!   with `UPDATE=1 cargo test --lib schema`.
//! - A **problem** of a file: a line in [`policy::codes`], and a report in `tests/golden/policy` (`UPDATE=1` writes it).
//! - A **reason** to refuse: a line in [`engine::decision`], one in `docs/reasons.md`, and a test.
//! - A **command**: a file in [`cli`] and a line in its list.
//!
//! A promise that the project makes has an id in `SECURITY.md` and a test that carries the id in its name.

pub mod admin;
pub mod cli;
pub mod credentials;
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
pub mod shared;
pub mod signin;
pub mod stages;
pub mod stores;
pub mod telemetry;
