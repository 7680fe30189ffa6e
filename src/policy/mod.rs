//! From YAML to what runs: written, checked, resolved, compiled.
//!
//! The only place that names YAML. Loading finds all problems of all files before it gives up.

pub mod codes;
pub mod compile;
pub mod document;
pub mod load;
mod mask;
pub mod model;
mod refusal;
pub mod resolve;
pub mod schema;
mod shape;
pub mod source;
mod suggest;
pub mod tree;
