//! Loads every file of an installation: parse, check, resolve, and compare with each other.
//!
//! What did not change is not read into again: a policy whose text, installation and dependencies are the same keeps the
//! very value that it had, so that a reload of one among ten thousand costs one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::document::{InstallationDocument, PolicyDocument};
use super::model::{Installation, Service};
use super::resolve::across::{Claimed, conflicts};
use super::resolve::{self, Context, Dependency, Overrides};
use super::schema::Kind;
use super::source::{File, Files};
use super::tree::Tree;
use super::{codes, shape};
use crate::diagnostics::{Diagnostic, Place, Report, Source};

/// A file that is good, with everything its meaning was made from.
#[derive(Debug)]
pub struct Good<M> {
    /// What it means.
    pub model: Arc<M>,
    /// The text.
    pub source: Arc<Source>,
    /// What was read besides.
    pub dependencies: Vec<Dependency>,
    /// Warnings.
    pub warnings: Report,
    /// SHA-256 of text, dependencies and, for a policy, of its installation.
    pub hash: [u8; 32],
    places: Vec<Place>,
}

/// One policy file after loading.
#[derive(Debug)]
pub struct Policy {
    /// Where it is.
    pub path: PathBuf,
    /// What it means now; `None` when it is broken.
    pub good: Option<Arc<Good<Service>>>,
}

/// Everything that was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The installation; `None` when `portcullis.yaml` is broken.
    pub installation: Option<Arc<Good<Installation>>>,
    /// The policies, in the order of their paths.
    pub policies: Vec<Policy>,
    /// Everything that was found.
    pub report: Report,
}

/// What runs now, by the path of its file.
pub type Running = HashMap<PathBuf, Arc<Good<Service>>>;

/// What loading starts from.
#[derive(Debug, Default)]
pub struct Before {
    /// The installation that runs: policies are resolved against it when `portcullis.yaml` is broken.
    pub installation: Option<Arc<Good<Installation>>>,
    /// The services that run.
    pub running: Running,
}

/// Loads all files.
#[must_use]
pub fn load(files: &Files, overrides: &Overrides, before: &Before) -> Loaded {
    let mut report = Report::default();
    let installation = load_installation(files.installation.as_ref(), overrides, before, &mut report);
    let against = installation.clone().or_else(|| before.installation.clone());
    let mut policies: Vec<Policy> = Vec::with_capacity(files.policies.len());
    for file in &files.policies {
        let good = match &against {
            Some(against) => load_policy(file, against, before, &mut report),
            None => {
                read_alone(file, &mut report);
                None
            }
        };
        policies.push(Policy { path: file.path.clone(), good });
    }
    compare(&mut policies, before, &mut report);
    if let Some(installation) = &installation {
        check_default_service(installation, &policies, &mut report);
    }
    Loaded { installation, policies, report }
}

/// Resolves a policy text that was good against another installation. `None` when it is no longer good: a provider, key
/// or secret that it names is gone.
#[must_use]
pub fn again(path: &Path, good: &Good<Service>, installation: &Good<Installation>) -> Option<Arc<Good<Service>>> {
    let file = File { path: path.to_owned(), text: Ok(Arc::clone(&good.source)) };
    load_policy(&file, installation, &Before::default(), &mut Report::default())
}

fn load_installation(
    file: Option<&File>,
    overrides: &Overrides,
    before: &Before,
    report: &mut Report,
) -> Option<Arc<Good<Installation>>> {
    let empty = || Arc::new(Source { name: super::source::INSTALLATION.to_owned(), text: "{}\n".to_owned() });
    let path = file.map_or_else(|| PathBuf::from(super::source::INSTALLATION), |file| file.path.clone());
    let source = match file.map(|file| &file.text) {
        None => empty(),
        Some(Ok(source)) if source.text.trim().is_empty() => empty(),
        Some(Ok(source)) => Arc::clone(source),
        Some(Err(diagnostic)) => {
            report.push(diagnostic.clone());
            return None;
        }
    };
    if let Some(good) = before.installation.as_ref().filter(|good| is_current(good, &source)) {
        report.extend(good.warnings.clone());
        return Some(Arc::clone(good));
    }
    let tree = read::<InstallationDocument>(&source, Kind::Installation, report)?;
    let mut context = Context::new(&tree.0, &path);
    let installation = resolve::installation(&mut context, &tree.1, overrides);
    finish(context, Some(installation), &source, &[], Vec::new(), report)
}

fn load_policy(
    file: &File,
    installation: &Good<Installation>,
    before: &Before,
    report: &mut Report,
) -> Option<Arc<Good<Service>>> {
    let source = match &file.text {
        Ok(source) => source,
        Err(diagnostic) => {
            report.push(diagnostic.clone());
            return None;
        }
    };
    let running = before.running.get(&file.path);
    let same_installation = before.installation.as_ref().is_some_and(|before| before.hash == installation.hash);
    if let Some(good) = running.filter(|good| same_installation && is_current(good, source)) {
        report.extend(good.warnings.clone());
        return Some(Arc::clone(good));
    }
    let (tree, document) = read::<PolicyDocument>(source, Kind::Policy, report)?;
    let mut context = Context::new(&tree, &file.path);
    let service = resolve::service(&mut context, &document, &installation.model);
    let audience =
        if document.authentication.audiences.is_some() { "/authentication/audiences" } else { "/authentication" };
    let places = vec![tree.value_at("/service"), tree.value_at("/route/path"), tree.key_at(audience)];
    finish(context, service, source, &installation.hash, places, report)
}

/// Without an installation nothing can be resolved, but what a policy itself gets wrong can be said.
fn read_alone(file: &File, report: &mut Report) {
    match &file.text {
        Ok(source) => drop(read::<PolicyDocument>(source, Kind::Policy, report)),
        Err(diagnostic) => report.push(diagnostic.clone()),
    }
}

/// Parses and checks the shape of a file.
fn read<D: DeserializeOwned>(source: &Arc<Source>, kind: Kind, report: &mut Report) -> Option<(Tree, D)> {
    let tree = match Tree::parse(source) {
        Ok(tree) => tree,
        Err(diagnostic) => {
            report.push(diagnostic);
            return None;
        }
    };
    let shape = shape::check(&tree, kind);
    let wrong = shape.has_errors();
    report.extend(shape);
    if wrong {
        return None;
    }
    match serde_json::from_value(tree.value.clone()) {
        Ok(document) => Some((tree, document)),
        Err(error) => {
            // The schema comes from the types, so this is a difference between the two that nobody has seen yet.
            report.push(Diagnostic::error(codes::INVALID_VALUE, error.to_string()).at(tree.value_at("")));
            None
        }
    }
}

fn finish<M>(
    context: Context<'_>,
    model: Option<M>,
    source: &Arc<Source>,
    base: &[u8],
    places: Vec<Place>,
    report: &mut Report,
) -> Option<Arc<Good<M>>> {
    let Context { report: found, dependencies, .. } = context;
    report.extend(found.clone());
    if found.has_errors() {
        return None;
    }
    let mut hash = Sha256::new().chain_update(base).chain_update(source.text.as_bytes());
    for dependency in &dependencies {
        hash.update(dependency.content.unwrap_or_default());
    }
    let source = Arc::clone(source);
    Some(Arc::new(Good {
        model: Arc::new(model?),
        source,
        dependencies,
        warnings: found,
        hash: hash.finalize().into(),
        places,
    }))
}

fn is_current<M>(good: &Good<M>, source: &Source) -> bool {
    good.source.text == source.text
        && good.source.name == source.name
        && good.dependencies.iter().all(Dependency::is_current)
}

/// Breaks the policies that contradict others.
fn compare(policies: &mut [Policy], before: &Before, report: &mut Report) {
    let mut claimed = Vec::new();
    let mut indexes = Vec::new();
    for (index, policy) in policies.iter().enumerate() {
        let Some(good) = &policy.good else { continue };
        let [name, route, audience] = good.places.as_slice() else { continue };
        let owner = before.running.get(&policy.path).is_some_and(|running| {
            running.model.name == good.model.name
                && running.model.resource == good.model.resource
                && running.model.audiences == good.model.audiences
        });
        indexes.push(index);
        claimed.push(Claimed {
            service: Arc::clone(&good.model),
            name: name.clone(),
            route: route.clone(),
            audience: audience.clone(),
            owner,
        });
    }
    for (index, diagnostic) in conflicts(&claimed) {
        report.push(diagnostic);
        if let Some(policy) = indexes.get(index).and_then(|index| policies.get_mut(*index)) {
            policy.good = None;
        }
    }
}

fn check_default_service(installation: &Good<Installation>, policies: &[Policy], report: &mut Report) {
    let Some(name) = &installation.model.default_service else { return };
    let names = || policies.iter().filter_map(|policy| Some(policy.good.as_ref()?.model.name.as_str()));
    if names().any(|known| known == name) || policies.iter().any(|policy| policy.good.is_none()) {
        return;
    }
    let Ok(tree) = Tree::parse(&installation.source) else { return };
    let diagnostic = Diagnostic::warning(codes::UNKNOWN_SERVICE, format!("there is no service `{name}`"))
        .at(tree.value_at("/default_service"));
    report.push(match super::suggest::nearest(name, names()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help("name a service, or remove the key"),
    });
}
