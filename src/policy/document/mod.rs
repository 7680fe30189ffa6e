//! What the user writes: the two kinds of file, as typed. The JSON Schema comes from these types, and its descriptions
//! from these comments.

pub mod installation;
pub mod policy;
pub mod provider;
pub mod rule;
pub mod scalar;
pub mod upstream;

pub use installation::InstallationDocument;
pub use policy::PolicyDocument;
