//! How the files look from outside: which there are, and whether they may have changed. Reads none.
//!
//! A folder whose stamp is the same still holds the same names, so after an event it is not listed again. Not every file
//! system keeps that promise, and none does within one tick of its clock: a stamp counts only when it was old enough as the
//! folder was listed, and from time to time a look is a full one whatever was told.
//!
//! Where the kernel tells of every change of a file, a file about which nothing was told needs no look; a link does, whose
//! way may lead out of the folders that are watched, and so does a file that has a second name.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::by_path::FilePath;
use super::codes;
use super::source::{INSTALLATION, Layout, shown};
use crate::diagnostics::Diagnostic;
use crate::secret::words;

/// What changed so shortly before it was looked at may change again without looking different from outside.
const CLOCK_TICK: Duration = Duration::from_secs(2);

/// How a file or folder looks from outside: what differs means that it may say something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    changed: (i64, i64),
    size: u64,
    inode: (u64, u64),
    /// It has another name, under which it may change without a word about this one.
    has_other_names: bool,
}

/// How every file looks. Of one that is not there, there is no stamp.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    pub(super) installation: Option<(FilePath, Option<Stamp>)>,
    /// Sorted.
    pub(super) policies: Arc<Vec<FilePath>>,
    pub(super) stamps: Arc<Vec<Option<Stamp>>>,
    /// What is wrong with folders.
    pub(super) folders: Vec<String>,
    /// Files in the middle of being written or replaced: what they said last is what they say.
    pub(super) held: Vec<FilePath>,
}

/// What was found in each folder of a layout the last time.
#[derive(Debug, Clone, Default)]
pub struct Folders {
    listed: Vec<Listed>,
    all: Arc<Vec<FilePath>>,
    stamps: Arc<Vec<Option<Stamp>>>,
}

#[derive(Debug, Clone)]
struct Listed {
    /// How the folder looked before it was listed; `None` when that does not tell whether it has changed.
    stamp: Option<Stamp>,
    paths: Arc<Vec<FilePath>>,
    /// Those of `paths` that are links.
    links: Arc<HashSet<FilePath>>,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every folder is listed, and every file looked at.
    Full,
    /// Folders that look the same are not listed again.
    Changes,
    /// Nor is a file looked at whose change an event would have told.
    Untold,
}

impl Layout {
    /// Looks at every file from outside. `folders` are those of the last look, and become those of this one.
    #[must_use]
    pub fn look(&self, folders: &mut Folders, depth: Depth) -> Look {
        let before = std::mem::take(&mut folders.listed);
        let mut wrong = Vec::new();
        for (index, path) in self.policies.iter().enumerate() {
            let known = before.get(index);
            match list(path, known, depth) {
                Ok(listed) => folders.listed.push(listed),
                Err(diagnostic) => {
                    wrong.push(diagnostic.message);
                    // The place is kept for the folders behind it.
                    folders.listed.push(Listed { stamp: None, paths: Arc::default(), links: Arc::default() });
                }
            }
        }
        match folders.listed.as_slice() {
            [only] => folders.all = Arc::clone(&only.paths),
            several => {
                let mut all: Vec<FilePath> = several.iter().flat_map(|listed| listed.paths.iter()).cloned().collect();
                all.sort_unstable();
                all.dedup();
                if *folders.all != all {
                    folders.all = Arc::new(all);
                }
            }
        }
        let policies = Arc::clone(&folders.all);
        let same = |(now, before): (&Listed, &Listed)| now.stamp.is_some() && now.stamp == before.stamp;
        let told = depth == Depth::Untold
            && folders.listed.len() == before.len()
            && folders.listed.iter().zip(&before).all(same)
            && folders.stamps.len() == policies.len();
        if told {
            folders.look_at_the_untold();
        } else {
            folders.stamps = Arc::new(policies.iter().map(|path| Stamp::of(path)).collect());
        }
        Look {
            installation: self.installation.clone().map(|path| {
                let stamp = Stamp::of(&path);
                (path.into(), stamp)
            }),
            stamps: Arc::clone(&folders.stamps),
            policies,
            folders: wrong,
            held: Vec::new(),
        }
    }
}

impl Look {
    /// Takes files that somebody `is_writing` as they were `before`: half of a policy may be one too, and mean the opposite.
    /// One that is new is not there yet.
    pub fn hold(&mut self, before: &Self, is_writing: impl Fn(&Path) -> bool) {
        if let (Some((path, stamp)), Some((_, last))) = (&mut self.installation, &before.installation)
            && is_writing(path)
        {
            *stamp = *last;
            self.held.push(path.clone());
        }
        for place in (0..self.policies.len()).rev() {
            let Some(path) = self.policies.get(place).filter(|path| is_writing(path)).cloned() else { continue };
            let stamps = Arc::make_mut(&mut self.stamps);
            match before.policies.binary_search(&path).ok().and_then(|known| before.stamps.get(known)) {
                Some(last) => {
                    stamps.get_mut(place).into_iter().for_each(|stamp| *stamp = *last);
                    self.held.push(path);
                }
                None => {
                    stamps.remove(place);
                    Arc::make_mut(&mut self.policies).remove(place);
                }
            }
        }
    }

    /// Takes policies that are missing as they were `before`, if they went away only a moment ago: whoever replaces a file may
    /// remove it first.
    pub fn keep(&mut self, before: &Self, went_away: impl Fn(&Path) -> bool) {
        for (path, stamp) in before.policies.iter().zip(before.stamps.iter()).filter(|(path, _)| went_away(path)) {
            if let Err(place) = self.policies.binary_search(path) {
                Arc::make_mut(&mut self.policies).insert(place, path.clone());
                Arc::make_mut(&mut self.stamps).insert(place, *stamp);
                self.held.push(path.clone());
            }
        }
    }
}

impl Folders {
    /// Looks at those files alone of whose change no event may tell.
    fn look_at_the_untold(&mut self) {
        let links = self.listed.iter().flat_map(|listed| listed.links.iter());
        let links = links.filter_map(|link| self.all.binary_search(link).ok());
        let has_names = |stamp: &Option<Stamp>| stamp.is_some_and(|stamp| stamp.has_other_names);
        let named = self.stamps.iter().enumerate().filter(|(_, stamp)| has_names(stamp)).map(|(place, _)| place);
        let untold: Vec<usize> = links.chain(named).collect();
        for place in untold {
            let Some(stamp) = self.all.get(place).map(|path| Stamp::of(path)) else { continue };
            if self.stamps.get(place).is_some_and(|known| *known != stamp)
                && let Some(known) = Arc::make_mut(&mut self.stamps).get_mut(place)
            {
                *known = stamp;
            }
        }
    }
}

/// What is in the folder at `path`, unless `known` tells.
fn list(path: &Path, known: Option<&Listed>, depth: Depth) -> Result<Listed, Diagnostic> {
    let began = SystemTime::now();
    // Taken before listing: what comes in between shows at the next look.
    let stamp = Stamp::of(path);
    if let Some(known) = known.filter(|known| depth != Depth::Full && known.stamp.is_some() && known.stamp == stamp) {
        return Ok(known.clone());
    }
    let stamp = stamp.filter(|stamp| stamp.is_settled(began));
    let found = policy_files(path)?;
    let links = Arc::new(found.iter().filter(|found| found.is_link).map(|link| link.path.clone().into()).collect());
    let same = known.filter(|known| {
        known.paths.len() == found.len()
            && known.paths.iter().zip(&found).all(|(known, found)| known.as_os_str() == found.path.as_os_str())
    });
    let paths = match same {
        Some(known) => Arc::clone(&known.paths),
        None => Arc::new(found.into_iter().map(|found| found.path.into()).collect()),
    };
    Ok(Listed { stamp, paths, links })
}

/// A policy that was found.
#[derive(Debug)]
pub(super) struct Found {
    path: PathBuf,
    /// It leads to a file, perhaps in another folder.
    is_link: bool,
}

/// The policies at `path`, sorted: a file, or those in a folder.
///
/// # Errors
/// A folder that is missing, unreadable or empty.
pub(super) fn policy_files(path: &Path) -> Result<Vec<Found>, Diagnostic> {
    if path.is_file() {
        return Ok(vec![Found { path: path.to_owned(), is_link: path.is_symlink() }]);
    }
    let unreadable = |error: std::io::Error| {
        Diagnostic::error(codes::UNREADABLE, format!("`{}` cannot be read: {}", shown(path), words(error.kind())))
            .help("name a policy file, or a directory with `portcullis.yaml` and `policies/`")
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let hidden = name.to_str().is_none_or(|name| name.starts_with('.'));
        let extension = Path::new(&name).extension();
        let yaml = extension.is_some_and(|extension| extension == "yaml" || extension == "yml");
        // What is no file (a dangling link in the middle of an update, a folder) is reported by reading it: a policy whose
        // place something else has taken was not deleted.
        if yaml && !hidden && name != INSTALLATION {
            let is_link = entry.file_type().map_or(true, |kind| !kind.is_file());
            found.push(Found { path: path.join(name), is_link });
        }
    }
    if found.is_empty() {
        return Err(Diagnostic::error(codes::NO_POLICY, format!("no policy in `{}`", shown(path)))
            .help("a policy is a file that ends in `.yaml`"));
    }
    found.sort_unstable_by(|one, other| one.path.as_os_str().cmp(other.path.as_os_str()));
    Ok(found)
}

impl Stamp {
    /// How the file at `path` looks; a link looks like what it leads to.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
            has_other_names: metadata.nlink() > 1,
        })
    }

    /// Whether the file changed long enough before `moment` for a further change to show.
    pub(super) fn is_settled(&self, moment: SystemTime) -> bool {
        let seconds = u64::try_from(self.changed.0).unwrap_or_default();
        moment.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|now| now.as_secs() > seconds + CLOCK_TICK.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(path: &Path) -> Layout {
        Layout { installation: None, policies: vec![path.to_owned()] }
    }

    fn names(look: &Look) -> Vec<String> {
        look.policies.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn n05_a_folder_that_changed_a_moment_ago_is_listed_again_whatever_it_looks_like() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, mut folders) = (layout(directory.path()), Folders::default());
        for (name, known) in [("b.yaml", vec!["b.yaml"]), ("a.yml", vec!["a.yml", "b.yaml"])] {
            std::fs::write(directory.path().join(name), "x").unwrap();
            assert_eq!(names(&layout.look(&mut folders, Depth::Changes)), known);
            assert_eq!(folders.listed.first().unwrap().stamp, None, "within a tick its stamp tells nothing");
        }
    }

    #[test]
    fn n05_a_folder_that_does_not_tell_of_a_change_hides_it_from_no_full_look() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, mut folders) = (layout(directory.path()), Folders::default());
        std::fs::write(directory.path().join("a.yaml"), "x").unwrap();
        let first = layout.look(&mut folders, Depth::Full);
        std::fs::write(directory.path().join("b.yaml"), "x").unwrap();
        // As if the folder had not changed for long, and looked so before and after.
        let lie = |folders: &mut Folders| folders.listed.first_mut().unwrap().stamp = Stamp::of(directory.path());
        lie(&mut folders);
        let second = layout.look(&mut folders, Depth::Changes);
        assert!(Arc::ptr_eq(&first.policies, &second.policies), "a folder that looks the same is not listed again");
        lie(&mut folders);
        assert_eq!(names(&layout.look(&mut folders, Depth::Full)), ["a.yaml", "b.yaml"]);
        // A change of a file needs no listing.
        lie(&mut folders);
        let before = layout.look(&mut folders, Depth::Changes);
        std::fs::write(directory.path().join("a.yaml"), "another").unwrap();
        assert_ne!(before, layout.look(&mut folders, Depth::Changes));
    }

    #[test]
    fn n05_what_is_told_by_events_is_not_looked_at_until_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("policies")).unwrap();
        std::fs::write(at("elsewhere.yaml"), "x").unwrap();
        std::fs::write(at("policies/a.yaml"), "x").unwrap();
        std::os::unix::fs::symlink("../elsewhere.yaml", at("policies/b.yaml")).unwrap();
        let (layout, mut folders) = (layout(&at("policies")), Folders::default());
        let settled = |folders: &mut Folders| folders.listed.first_mut().unwrap().stamp = Stamp::of(&at("policies"));
        let first = layout.look(&mut folders, Depth::Full);
        settled(&mut folders);
        std::fs::write(at("policies/a.yaml"), "another").unwrap();
        assert_eq!(first, layout.look(&mut folders, Depth::Untold), "an event would tell of it");
        let second = layout.look(&mut folders, Depth::Changes);
        assert_ne!(first, second);
        // A link leads where nobody watches.
        std::fs::write(at("elsewhere.yaml"), "another").unwrap();
        let third = layout.look(&mut folders, Depth::Untold);
        assert_ne!(second, third);
        assert_eq!(third, layout.look(&mut folders, Depth::Full));
        // So does another name.
        std::fs::hard_link(at("policies/a.yaml"), at("a second name")).unwrap();
        let before = layout.look(&mut folders, Depth::Full);
        settled(&mut folders);
        std::fs::write(at("a second name"), "through it").unwrap();
        assert_ne!(before, layout.look(&mut folders, Depth::Untold));
        std::fs::remove_file(at("a second name")).unwrap();
        drop(layout.look(&mut folders, Depth::Full));
        // A folder that changed is looked at with all that is in it.
        settled(&mut folders);
        std::fs::write(at("policies/a.yaml"), "a third").unwrap();
        std::fs::write(at("policies/c.yaml"), "x").unwrap();
        let fourth = layout.look(&mut folders, Depth::Untold);
        assert_eq!(names(&fourth), ["a.yaml", "b.yaml", "c.yaml"]);
        assert_eq!(fourth, layout.look(&mut folders, Depth::Full));
    }

    #[test]
    fn n05_a_file_that_went_away_a_moment_ago_is_taken_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["a.yaml", "b.yaml", "c.yaml"] {
            std::fs::write(at(name), "x").unwrap();
        }
        let (layout, mut folders) = (layout(directory.path()), Folders::default());
        let mut texts = crate::policy::source::Texts::default();
        let before = layout.look(&mut folders, Depth::Full);
        layout.read_again(&before, &mut texts).unwrap();
        std::fs::remove_file(at("a.yaml")).unwrap();
        std::fs::remove_file(at("b.yaml")).unwrap();
        let mut look = layout.look(&mut folders, Depth::Full);
        look.keep(&before, |path| path == at("b.yaml"));
        assert_eq!(names(&look), ["b.yaml", "c.yaml"], "the other is removed");
        assert_eq!(look.stamps.len(), 2);
        let files = layout.read_again(&look, &mut texts).unwrap();
        assert!(files.policies.iter().all(|file| file.text.as_ref().is_ok_and(|text| text.text == "x")), "{files:?}");
        // What was not there before does not come to be.
        look.keep(&before, |path| path == at("d.yaml"));
        assert_eq!(names(&look), ["b.yaml", "c.yaml"]);
    }

    #[test]
    fn n05_a_link_that_is_swapped_looks_different() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for version in ["one", "two"] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("a.yaml"), "x").unwrap();
        }
        // As an orchestrator mounts a map of files: the names stay, a link in the middle of their way is replaced.
        std::os::unix::fs::symlink("one", at("..data")).unwrap();
        std::fs::create_dir(at("policies")).unwrap();
        std::os::unix::fs::symlink("../..data/a.yaml", at("policies/a.yaml")).unwrap();
        let (layout, mut folders) = (layout(&at("policies")), Folders::default());
        let before = layout.look(&mut folders, Depth::Full);
        assert_eq!(before, layout.look(&mut folders, Depth::Changes), "nothing has changed");
        std::os::unix::fs::symlink("two", at("..next")).unwrap();
        std::fs::rename(at("..next"), at("..data")).unwrap();
        assert_ne!(before, layout.look(&mut folders, Depth::Changes));
    }

    #[test]
    fn n05_a_folder_that_was_gone_for_a_moment_deletes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, mut folders) = (layout(directory.path()), Folders::default());
        let look = layout.look(&mut folders, Depth::Full);
        std::fs::write(directory.path().join("a.yaml"), "x").unwrap();
        let mut texts = crate::policy::source::Texts::default();
        let report = layout.read_again(&look, &mut texts).unwrap_err();
        assert!(report.has_errors(), "the look found no policy, and what came after was not looked at");
        let look = layout.look(&mut folders, Depth::Changes);
        assert_eq!(layout.read_again(&look, &mut texts).unwrap().policies.len(), 1);
    }
}
