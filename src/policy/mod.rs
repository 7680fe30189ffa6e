//! From YAML to what runs: written, checked, resolved, compiled.
//!
//! The only place that names YAML. Loading finds all problems of all files before it gives up.

pub mod by_path;
pub mod codes;
mod compare;
pub mod compile;
pub mod document;
pub mod load;
pub mod look;
mod mask;
pub mod model;
mod parallel;
mod refusal;
pub mod resolve;
pub mod schema;
mod shape;
pub mod source;
mod suggest;
pub mod tree;
pub mod users;
