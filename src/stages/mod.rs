//! THE list of stages. Its order is the order in which they run.
//!
//! A new stage is one file, one line here and one test; see `docs/extending.md`.

mod content_type;
mod cors;
mod method;
mod origin;

use crate::engine::stage::Stage;

/// What the stages of one service need to know.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Origins of browsers that may call the service, as the `Origin` header spells them.
    pub origins: Vec<String>,
    /// Whether a revision with sessions is accepted.
    pub sessions: bool,
}

/// Builds the stages of one service, in run order.
#[must_use]
pub fn build(settings: &Settings) -> Vec<Box<dyn Stage>> {
    vec![
        Box::new(origin::Origin::new(settings.origins.clone())),
        // A preflight carries no credential: it is answered before authentication and before the method check.
        Box::new(cors::Cors::new(settings.sessions)),
        Box::new(method::Method::new(settings.sessions)),
        Box::new(content_type::ContentType),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_this_folder_is_in_the_list() {
        let listed: Vec<_> = build(&Settings::default()).iter().map(|stage| stage.name()).collect();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/stages");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .filter(|name| name != "mod")
            .collect();
        let mut sorted = listed.clone();
        sorted.sort_unstable();
        files.sort_unstable();
        assert_eq!(sorted, files, "a stage file is missing from the list, or the reverse");
        assert_eq!(listed, ["origin", "cors", "method", "content_type"], "the order is part of the contract");
    }
}
