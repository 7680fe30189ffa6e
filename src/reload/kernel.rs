//! What the kernel tells of changes.

use std::path::Path;

/// Whether every change of a file in `folder` goes through this kernel, so that it tells of it: so it is with a file system
/// on a disk or in memory of this machine, and not with one whose files another machine may write (NFS, SMB, 9P, FUSE).
/// What is not known is not.
#[cfg(target_os = "linux")]
pub(super) fn sees_every_change(folder: &Path) -> bool {
    /// `f_type` of statfs(2): ext2 to ext4, XFS, Btrfs, F2FS, ZFS, bcachefs, tmpfs, overlayfs.
    const LOCAL: [rustix::fs::FsWord; 8] =
        [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e, 0x0102_1994, 0x794c_7630];
    rustix::fs::statfs(folder).is_ok_and(|found| LOCAL.contains(&found.f_type))
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
    }
}
