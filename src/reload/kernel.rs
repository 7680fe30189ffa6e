//! What the kernel tells of changes.

use std::path::{Path, PathBuf};

/// Whether every change of a file in `folder` goes through this kernel, so that it tells of it: so it is with a file system
/// on a disk or in memory of this machine, and not with one whose files another machine may write (NFS, SMB, 9P, FUSE).
/// What is not known is not.
#[cfg(target_os = "linux")]
pub(super) fn sees_every_change(folder: &Path) -> bool {
    /// `f_type` of statfs(2): ext2 to ext4, XFS, Btrfs, F2FS, ZFS, bcachefs, tmpfs, overlayfs.
    const LOCAL: [rustix::fs::FsWord; 8] =
        [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e, 0x0102_1994, 0x794c_7630];
    rustix::fs::statfs(folder).is_ok_and(|found| LOCAL.contains(&found.f_type)) && !holds_a_mount(folder)
}

/// Whether something in `folder` is mounted there, as single files are into containers: a change at the place where it comes
/// from is not told here. What cannot be known counts as a mount.
#[cfg(target_os = "linux")]
fn holds_a_mount(folder: &Path) -> bool {
    let (Ok(folder), Ok(mounts)) = (folder.canonicalize(), std::fs::read_to_string("/proc/self/mountinfo")) else {
        return true;
    };
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|point| unescaped(point).parent() == Some(&*folder))
}

/// A mount point as proc(5) writes it, with blanks and backslashes in octal.
#[cfg(target_os = "linux")]
fn unescaped(point: &str) -> PathBuf {
    let plain = point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    plain.replace("\\134", "\\").into()
}

/// Elsewhere nothing is known of file systems.
#[cfg(not(target_os = "linux"))]
pub(super) fn sees_every_change(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn n05_only_the_files_of_this_machine_are_told_of() {
        let known = Path::new("/dev/shm");
        assert!(sees_every_change(known), "memory is this machine's");
        for foreign in ["/proc", "/sys", "/no/such/folder"] {
            assert!(!sees_every_change(Path::new(foreign)), "{foreign}");
        }
        assert!(holds_a_mount(Path::new("/")), "of `/proc` and others");
        assert_eq!(unescaped(r"/a\040b\134c"), Path::new(r"/a b\c"));
    }
}
