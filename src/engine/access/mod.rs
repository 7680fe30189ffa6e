//! Which operations an identity may ask for: one rule set for calls and lists, through the same code.

pub mod argument;
pub mod condition;
pub mod pattern;
pub mod rule;
