//! Loads every file of an installation: parse, check, resolve, and compare with each other.
//!
//! What did not change is not read into again: a policy whose text, installation and dependencies are the same keeps the
//! very value that it had, so that a reload of one among ten thousand costs one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::by_path::{ByPath, FilePath};
use super::compare::{check_default_service, compare};
use super::document::policy::RouteDocument;
use super::document::scalar::NameText;
use super::document::{InstallationDocument, PolicyDocument};
use super::model::{Installation, Service};
use super::resolve::{self, Context, Dependency, Overrides};
use super::schema::Kind;
use super::source::{File, Files};
use super::tree::Tree;
use super::{codes, parallel, shape};
use crate::diagnostics::{Diagnostic, Place, Report, Severity, Source};

/// What an absent installation says.
const NOTHING: &str = "{}\n";

/// A file that is good, with everything its meaning was made from.
#[derive(Debug)]
pub struct Good<M> {
    /// What it means.
    pub model: Arc<M>,
    /// The text.
    pub source: Arc<Source>,
    /// What was read besides.
    pub dependencies: Vec<Arc<Dependency>>,
    /// Warnings.
    pub warnings: Report,
    /// SHA-256 of name, text, dependencies and, for a policy, of its installation.
    pub hash: [u8; 32],
    /// The hash of the installation that a policy was resolved against.
    base: [u8; 32],
    pub(super) places: Vec<Place>,
}

/// One policy file after loading.
#[derive(Debug)]
pub struct Policy {
    /// Where it is.
    pub path: FilePath,
    /// What it means now; `None` when it is broken.
    pub good: Option<Arc<Good<Service>>>,
    /// Of a broken file, the name and route that it claims, when they can be told.
    pub claim: Option<Claim>,
    /// Of a broken file, whether its last good version would now share an audience that it may not share.
    pub closes: bool,
}

/// Where a service would be if its file were good: requests there are answered 503 and not 404.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The name.
    pub name: String,
    /// The host of its route.
    pub host: String,
    /// The path of its route.
    pub path: String,
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
    /// What broken files depend on: they may be mended there.
    pub wanted: Vec<Arc<Dependency>>,
}

/// What comes up while files are loaded.
#[derive(Debug, Default)]
struct Findings {
    report: Report,
    wanted: Vec<Arc<Dependency>>,
}

/// What runs now, by the path of its file.
pub type Running = ByPath<Arc<Good<Service>>>;

/// What loading starts from.
#[derive(Debug, Default)]
pub struct Before {
    /// The installation that runs: policies are resolved against it when `portcullis.yaml` is broken.
    pub installation: Option<Arc<Good<Installation>>>,
    /// The services that run.
    pub running: Running,
    /// Whether, while nothing runs yet, a secret or key that is missing in `portcullis.yaml` concerns its provider alone.
    pub rest: bool,
}

/// Loads all files.
#[must_use]
pub fn load(files: &Files, overrides: &Overrides, before: &Before) -> Loaded {
    let mut findings = Findings::default();
    let installation = load_installation(files.installation.as_ref(), overrides, before, &mut findings);
    let against = installation.clone().or_else(|| before.installation.clone());
    let mut policies = load_policies(&files.policies, against.as_deref(), before, &mut findings);
    compare(&mut policies, against.as_deref(), before, &mut findings.report);
    for (policy, file) in policies.iter_mut().zip(&files.policies).filter(|(policy, _)| policy.good.is_none()) {
        policy.claim = against.as_ref().and_then(|against| claim(file, &against.model));
    }
    if let Some(installation) = &installation {
        check_default_service(installation, &policies, &mut findings.report);
    }
    let Findings { report, wanted } = findings;
    Loaded { installation, policies, report, wanted }
}

/// Resolves a policy text that was good against another installation. `None` when it is no longer good: a provider, key
/// or secret that it names is gone.
#[must_use]
pub fn again(path: &FilePath, good: &Good<Service>, installation: &Good<Installation>) -> Option<Arc<Good<Service>>> {
    let file = File { path: path.clone(), text: Ok(Arc::clone(&good.source)) };
    load_policy(&file, installation, &mut Findings::default())
}

fn load_installation(
    file: Option<&File>,
    overrides: &Overrides,
    before: &Before,
    findings: &mut Findings,
) -> Option<Arc<Good<Installation>>> {
    let empty = || Arc::new(Source { name: super::source::INSTALLATION.to_owned(), text: NOTHING.to_owned() });
    let path = file.map_or_else(|| PathBuf::from(super::source::INSTALLATION).into(), |file| file.path.clone());
    let source = match file.map(|file| &file.text) {
        None => empty(),
        // A file that was cut off at its start is no decision to have every default.
        Some(Ok(source)) if source.text.trim().is_empty() && before.installation.as_ref().is_some_and(is_written) => {
            let message = format!("`{}` has become empty", source.name);
            let help = "write `{}` if every setting shall have its default";
            findings.report.push(Diagnostic::error(codes::UNREADABLE, message).help(help));
            return None;
        }
        Some(Ok(source)) if source.text.trim().is_empty() => empty(),
        Some(Ok(source)) => Arc::clone(source),
        Some(Err(diagnostic)) => {
            findings.report.push(diagnostic.clone());
            return None;
        }
    };
    if let Some(good) =
        before.installation.as_ref().filter(|good| has_text(good, &source) && Seen::default().are_current(good))
    {
        return Some(Arc::clone(good));
    }
    let (tree, document) = read::<InstallationDocument>(&source, Kind::Installation, &mut findings.report)?;
    let mut context = Context::new(&tree, &path);
    let installation = resolve::installation(&mut context, &document, overrides);
    if let Some(running) = &before.installation {
        refuse_what_needs_a_restart(&mut context, &running.model, &installation);
        // When nobody changed the file, a secret or key went that it names. That closes the services of the provider, and
        // they are closed by having none; everything else in the file is as good as before.
        if running.source == source && context.report.errors() == context.provider_errors {
            let found = std::mem::take(&mut context.report);
            findings.report.extend(found);
        }
    } else if before.rest && context.report.errors() == context.provider_errors {
        // Anything else than a missing secret is a mistake of the file, and nothing is known to be meant by it.
        let mut errors = context.report.diagnostics().iter().filter(|found| found.severity == Severity::Error);
        if errors.all(|error| error.code == codes::SECRET_UNREADABLE) {
            let found = std::mem::take(&mut context.report);
            findings.report.extend(found);
        }
    }
    finish(context, Some(installation), &source, [0; 32], vec![tree.value_at("/store")], findings)
}

fn is_written(good: &Arc<Good<Installation>>) -> bool {
    good.source.text != NOTHING
}

/// Listeners, the log and the store are fixed once the process runs: a file that changes them is broken as a whole.
fn refuse_what_needs_a_restart(context: &mut Context<'_>, running: &Installation, new: &Installation) {
    let address = |installation: &Installation| installation.admin.as_ref().map(|admin| admin.address);
    let (changed, pointer) = if running.listeners != new.listeners {
        ("listeners", "/listeners")
    } else if running.log.file != new.log.file {
        ("log.file", "/log/file")
    } else if address(running) != address(new) {
        ("admin.address", "/admin")
    } else if !running.store.clone().unwrap_or_default().is_where(&new.store.clone().unwrap_or_default()) {
        ("store", "/store")
    } else if running.control_socket != new.control_socket {
        ("control_socket", "/control_socket")
    } else {
        return;
    };
    let message = format!("`{changed}` cannot change while the process runs; everything in the file is left as it was");
    context.push_at_key(Diagnostic::error(codes::NEEDS_RESTART, message).help("restart the process"), pointer);
}

/// What a file that cannot be served says about where it would be.
fn claim(file: &File, installation: &Installation) -> Option<Claim> {
    #[derive(serde::Deserialize)]
    struct Written {
        service: NameText,
        route: RouteDocument,
        public_url: Option<String>,
    }
    let tree = Tree::parse(file.text.as_ref().ok()?).ok()?;
    let written: Written = serde_json::from_value(tree.value.clone()).ok()?;
    let mut context = Context::new(&tree, &file.path);
    let resource = resolve::resource(&mut context, &written.route, written.public_url.as_deref(), installation)?;
    let host = resolve::host(&resource)?;
    Some(Claim { name: written.service.0, host, path: resource.path().to_owned() })
}

/// Keeps the policies of which nothing has changed, and reads the others.
fn load_policies(
    files: &[File],
    against: Option<&Good<Installation>>,
    before: &Before,
    findings: &mut Findings,
) -> Vec<Policy> {
    let mut dependencies = Seen::default();
    let mut keep = |file: &File| {
        // What runs may be the last good version of a file that an earlier change of the installation has broken.
        let good = before.running.get(&file.path).filter(|good| against.is_some_and(|now| now.hash == good.base))?;
        // Its warnings were told when it was read.
        (has_text(good, file.text.as_ref().ok()?) && dependencies.are_current(good)).then(|| Arc::clone(good))
    };
    let kept: Vec<Option<Arc<Good<Service>>>> = files.iter().map(&mut keep).collect();
    let others: Vec<&File> = files.iter().zip(&kept).filter(|(_, kept)| kept.is_none()).map(|(file, _)| file).collect();
    let read = parallel::map(&others, |file| {
        let mut findings = Findings::default();
        let good = match against {
            Some(against) => load_policy(file, against, &mut findings),
            None => {
                read_alone(file, &mut findings.report);
                None
            }
        };
        (good, findings)
    });
    let mut read = read.into_iter();
    let policies = files.iter().zip(kept).map(|(file, kept)| {
        let good = kept.or_else(|| {
            let (good, found) = read.next()?;
            findings.report.extend(found.report);
            findings.wanted.extend(found.wanted);
            good
        });
        Policy { path: file.path.clone(), good, claim: None, closes: false }
    });
    policies.collect()
}

/// Dependencies that were looked at: each is read once for all policies.
#[derive(Debug, Default)]
struct Seen(HashMap<*const Dependency, bool, foldhash::fast::RandomState>);

impl Seen {
    fn are_current<M>(&mut self, good: &Good<M>) -> bool {
        let mut is_current =
            |one: &Arc<Dependency>| *self.0.entry(Arc::as_ptr(one)).or_insert_with(|| one.is_current());
        good.dependencies.iter().all(&mut is_current)
    }
}

fn load_policy(file: &File, installation: &Good<Installation>, findings: &mut Findings) -> Option<Arc<Good<Service>>> {
    let source = match &file.text {
        Ok(source) => source,
        Err(diagnostic) => {
            findings.report.push(diagnostic.clone());
            return None;
        }
    };
    let (tree, document) = read::<PolicyDocument>(source, Kind::Policy, &mut findings.report)?;
    let mut context = Context::new(&tree, &file.path);
    let service = resolve::service(&mut context, &document, &installation.model);
    let audience = match &document.authentication {
        Some(authentication) if authentication.audiences.is_some() => "/authentication/audiences",
        Some(_) => "/authentication",
        None => "/authorization_server",
    };
    let places = vec![tree.value_at("/service"), tree.value_at("/route/path"), tree.key_at(audience)];
    finish(context, service, source, installation.hash, places, findings)
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
    base: [u8; 32],
    places: Vec<Place>,
    findings: &mut Findings,
) -> Option<Arc<Good<M>>> {
    let Context { report: found, dependencies, .. } = context;
    // A copy is as small as can be, and is what stays.
    let warnings = found.clone();
    findings.report.extend(found);
    if warnings.has_errors() {
        findings.wanted.extend(dependencies);
        return None;
    }
    // The name belongs to it: the audit record says in which file a rule stands.
    let mut hash = Sha256::new().chain_update(base);
    for part in [&source.name, &source.text] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    for dependency in &dependencies {
        hash.update(dependency.content.unwrap_or_default());
    }
    let source = Arc::clone(source);
    Some(Arc::new(Good {
        model: Arc::new(model?),
        source,
        dependencies,
        warnings,
        hash: hash.finalize().into(),
        base,
        places,
    }))
}

fn has_text<M>(good: &Good<M>, source: &Arc<Source>) -> bool {
    Arc::ptr_eq(&good.source, source) || good.source == *source
}
