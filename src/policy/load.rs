//! Loads every file of an installation: parse, check, resolve, and compare with each other.
//!
//! What did not change is not read into again: a policy whose text, installation and dependencies are the same keeps the
//! very value that it had, so that a reload of one among ten thousand costs one.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::document::policy::RouteDocument;
use super::document::scalar::NameText;
use super::document::{InstallationDocument, PolicyDocument};
use super::model::{Installation, Service};
use super::resolve::across::{Claimed, Owner, conflicts};
use super::resolve::{self, Context, Dependency, Overrides};
use super::schema::Kind;
use super::source::{File, Files};
use super::tree::Tree;
use super::{codes, shape};
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
    pub dependencies: Vec<Dependency>,
    /// Warnings.
    pub warnings: Report,
    /// SHA-256 of name, text, dependencies and, for a policy, of its installation.
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
    pub wanted: Vec<Dependency>,
}

/// What comes up while files are loaded.
#[derive(Debug, Default)]
struct Findings {
    report: Report,
    wanted: Vec<Dependency>,
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
    /// Whether, while nothing runs yet, a secret or key that is missing in `portcullis.yaml` concerns its provider alone.
    pub rest: bool,
}

/// Loads all files.
#[must_use]
pub fn load(files: &Files, overrides: &Overrides, before: &Before) -> Loaded {
    let mut findings = Findings::default();
    let installation = load_installation(files.installation.as_ref(), overrides, before, &mut findings);
    let against = installation.clone().or_else(|| before.installation.clone());
    let mut policies: Vec<Policy> = Vec::with_capacity(files.policies.len());
    for file in &files.policies {
        let good = match &against {
            Some(against) => load_policy(file, against, before, &mut findings),
            None => {
                read_alone(file, &mut findings.report);
                None
            }
        };
        policies.push(Policy { path: file.path.clone(), good, claim: None, closes: false });
    }
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
pub fn again(path: &Path, good: &Good<Service>, installation: &Good<Installation>) -> Option<Arc<Good<Service>>> {
    let file = File { path: path.to_owned(), text: Ok(Arc::clone(&good.source)) };
    load_policy(&file, installation, &Before::default(), &mut Findings::default())
}

fn load_installation(
    file: Option<&File>,
    overrides: &Overrides,
    before: &Before,
    findings: &mut Findings,
) -> Option<Arc<Good<Installation>>> {
    let empty = || Arc::new(Source { name: super::source::INSTALLATION.to_owned(), text: NOTHING.to_owned() });
    let path = file.map_or_else(|| PathBuf::from(super::source::INSTALLATION), |file| file.path.clone());
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
    if let Some(good) = before.installation.as_ref().filter(|good| is_current(good, &source)) {
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
    finish(context, Some(installation), &source, &[], Vec::new(), findings)
}

fn is_written(good: &Arc<Good<Installation>>) -> bool {
    good.source.text != NOTHING
}

/// Listeners and the log are fixed once the process runs: a file that changes them is broken as a whole.
fn refuse_what_needs_a_restart(context: &mut Context<'_>, running: &Installation, new: &Installation) {
    let (changed, pointer) = if running.listeners != new.listeners {
        ("listeners", "/listeners")
    } else if running.log.file != new.log.file {
        ("log.file", "/log/file")
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

fn load_policy(
    file: &File,
    installation: &Good<Installation>,
    before: &Before,
    findings: &mut Findings,
) -> Option<Arc<Good<Service>>> {
    let source = match &file.text {
        Ok(source) => source,
        Err(diagnostic) => {
            findings.report.push(diagnostic.clone());
            return None;
        }
    };
    let running = before.running.get(&file.path);
    let same_installation = before.installation.as_ref().is_some_and(|before| before.hash == installation.hash);
    // Its warnings were told when it was read.
    if let Some(good) = running.filter(|good| same_installation && is_current(good, source)) {
        return Some(Arc::clone(good));
    }
    let (tree, document) = read::<PolicyDocument>(source, Kind::Policy, &mut findings.report)?;
    let mut context = Context::new(&tree, &file.path);
    let service = resolve::service(&mut context, &document, &installation.model);
    let audience =
        if document.authentication.audiences.is_some() { "/authentication/audiences" } else { "/authentication" };
    let places = vec![tree.value_at("/service"), tree.value_at("/route/path"), tree.key_at(audience)];
    finish(context, service, source, &installation.hash, places, findings)
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
    findings: &mut Findings,
) -> Option<Arc<Good<M>>> {
    let Context { report: found, dependencies, .. } = context;
    findings.report.extend(found.clone());
    if found.has_errors() {
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
        warnings: found,
        hash: hash.finalize().into(),
        places,
    }))
}

fn is_current<M>(good: &Good<M>, source: &Arc<Source>) -> bool {
    (Arc::ptr_eq(&good.source, source) || good.source == *source)
        && good.dependencies.iter().all(Dependency::is_current)
}

/// Breaks the policies that contradict others. Who is broken serves its last good version, which has a say too: so it is
/// compared until nobody loses any more.
fn compare(policies: &mut [Policy], against: Option<&Good<Installation>>, before: &Before, report: &mut Report) {
    let Some(against) = against else { return };
    let same = before.installation.as_ref().is_some_and(|before| before.hash == against.hash);
    let mut last: HashMap<usize, Arc<Good<Service>>> = HashMap::new();
    loop {
        for (index, policy) in policies.iter().enumerate().filter(|(_, policy)| policy.good.is_none()) {
            if let Some(running) = before.running.get(&policy.path).filter(|_| !last.contains_key(&index)) {
                let now = if same { None } else { again(&policy.path, running, against) };
                last.insert(index, now.unwrap_or_else(|| Arc::clone(running)));
            }
        }
        let lost = contradictions(policies, before, &last);
        if lost.is_empty() {
            return;
        }
        // One may lose by several things at once.
        let losers: BTreeSet<usize> = lost.iter().map(|(index, _)| *index).collect();
        lost.into_iter().for_each(|(_, diagnostic)| report.push(diagnostic));
        for (_, policy) in policies.iter_mut().enumerate().filter(|(index, _)| losers.contains(index)) {
            policy.closes = policy.good.take().is_none();
        }
    }
}

/// Who contradicts others, by the index of the policy; `last` are the last good versions of those that are broken.
fn contradictions(
    policies: &[Policy],
    before: &Before,
    last: &HashMap<usize, Arc<Good<Service>>>,
) -> Vec<(usize, Diagnostic)> {
    let mut claimed = Vec::with_capacity(policies.len());
    let mut indexes = Vec::with_capacity(policies.len());
    for (index, policy) in policies.iter().enumerate().filter(|(_, policy)| !policy.closes) {
        let Some(good) = policy.good.as_ref().or_else(|| last.get(&index)) else { continue };
        let [name, route, audience] = good.places.as_slice() else { continue };
        let running = before.running.get(&policy.path);
        let is_last = policy.good.is_none();
        let model = running.map(|running| &*running.model);
        let owner = Owner {
            of_name: is_last || model.is_some_and(|running| running.name == good.model.name),
            of_route: is_last || model.is_some_and(|running| running.resource == good.model.resource),
            before: model,
            changed: !is_last && running.is_some_and(|running| running.source != good.source),
        };
        indexes.push(index);
        claimed.push(Claimed { service: &good.model, name, route, audience, owner });
    }
    let found = conflicts(&claimed).into_iter();
    found.filter_map(|(at, diagnostic)| Some((*indexes.get(at)?, diagnostic))).collect()
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
