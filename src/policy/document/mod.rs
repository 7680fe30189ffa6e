//! What the user writes: the three kinds of file, as typed. The JSON Schema comes from these types, and its descriptions
//! from these comments.

pub mod authorization_server;
pub mod credential;
pub mod installation;
pub mod policy;
pub mod provider;
pub mod rule;
pub mod scalar;
pub mod store;
pub mod upstream;
pub mod users;

pub use installation::InstallationDocument;
pub use policy::PolicyDocument;
pub use users::UsersDocument;
