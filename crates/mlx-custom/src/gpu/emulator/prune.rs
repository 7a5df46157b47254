//! Old entries of the cache go, so that years of edited kernels don't fill a disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::cache::DIGEST;

/// Some 400 MB.
pub(super) const MOST_ENTRIES: usize = 4000;
/// So few are left when there were too many.
const KEPT: usize = 3000;
/// Nothing younger goes: another process may have found it a moment ago, and not opened it yet.
const YOUNG: Duration = Duration::from_secs(3600);
/// A use is noted once in this time. Every one would be a write to the disk.
const NOTED_ONCE_IN: Duration = Duration::from_secs(24 * 3600);
/// How a folder ends in which something is being built.
pub(super) const PARTIAL: &str = ".partial";

/// Notes that an entry was used: the time of its digest's last change says when.
pub(super) fn note_use(entry: &Path) {
    let digest = entry.join(DIGEST);
    let is_old = last_use(entry).and_then(|then| then.elapsed().ok()).is_some_and(|age| age > NOTED_ONCE_IN);
    if is_old && let Ok(file) = fs::File::options().append(true).open(digest) {
        // Without permission it will look older than it is, and be built again some day.
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Removes the entries that were not used for longest if there are more than `most`, and what a process left that was ended while it
/// built. Only folders that this cache made are looked at. What can't be removed stays: there is a next time.
pub(super) fn prune(cache: &Path, most: usize) {
    let Ok(listing) = fs::read_dir(cache) else { return };
    let mut entries = Vec::new();
    for folder in listing.flatten().map(|folder| folder.path()) {
        let is_partial = folder.extension().is_some_and(|extension| extension == &PARTIAL[1..]);
        let used = if is_partial { fs::metadata(&folder).and_then(|of| of.modified()).ok() } else { last_use(&folder) };
        let Some(used) = used.filter(|used| used.elapsed().is_ok_and(|age| age > YOUNG)) else { continue };
        if is_partial {
            let _ = fs::remove_dir_all(&folder);
        } else {
            entries.push((used, folder));
        }
    }
    if entries.len() > most {
        let n_kept = most.min(KEPT);
        let n_removed = entries.len() - n_kept;
        entries.select_nth_unstable(n_removed - 1);
        for (_, entry) in &entries[..n_removed] {
            remove(entry);
        }
    }
}

/// The digest first: without it what is left is no entry.
fn remove(entry: &PathBuf) {
    if fs::remove_file(entry.join(DIGEST)).is_ok() {
        let _ = fs::remove_dir_all(entry);
    }
}

fn last_use(entry: &Path) -> Option<SystemTime> {
    fs::metadata(entry.join(DIGEST)).and_then(|of| of.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("mlx_custom_prune_{name}_{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// An entry that was used so many hours ago.
        fn entry(&self, name: &str, hours: u64) -> PathBuf {
            let entry = self.0.join(name);
            fs::create_dir(&entry).unwrap();
            fs::write(entry.join("kernel.so"), "code").unwrap();
            fs::write(entry.join(DIGEST), "digest").unwrap();
            let digest = fs::File::options().append(true).open(entry.join(DIGEST)).unwrap();
            digest.set_modified(SystemTime::now() - Duration::from_secs(3600 * hours)).unwrap();
            entry
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_oldest_go() {
        let folder = Folder::new("oldest");
        for (name, hours) in [("c", 30), ("a", 50), ("d", 20), ("b", 40), ("new", 0)] {
            folder.entry(name, hours);
        }
        prune(&folder.0, 4);
        assert_eq!(folder.names(), ["a", "b", "c", "d", "new"], "four are not too many, and the new one doesn't count");
        prune(&folder.0, 2);
        assert_eq!(folder.names(), ["c", "d", "new"]);
    }

    #[test]
    fn what_is_used_stays() {
        let folder = Folder::new("used");
        let old = folder.entry("old", 100);
        folder.entry("older", 200);
        folder.entry("oldest", 300);
        note_use(&old);
        prune(&folder.0, 1);
        assert_eq!(folder.names(), ["old", "older"]);
    }

    #[test]
    fn what_a_killed_process_left_goes() {
        let folder = Folder::new("killed");
        let partial = folder.0.join(format!("key.1.2{PARTIAL}"));
        fs::create_dir(&partial).unwrap();
        fs::write(partial.join("kernel.cpp"), "half").unwrap();
        let two_hours_ago = SystemTime::now() - Duration::from_secs(7200);
        fs::File::open(&partial).unwrap().set_modified(two_hours_ago).unwrap();
        prune(&folder.0, 10);
        assert_eq!(folder.names(), [""; 0]);
    }

    #[test]
    fn what_others_put_there_stays() {
        let folder = Folder::new("others");
        fs::write(folder.0.join("notes.txt"), "mine").unwrap();
        fs::create_dir(folder.0.join("mine")).unwrap();
        folder.entry("entry", 100);
        // Under way in another process.
        fs::create_dir(folder.0.join(format!("key.1.2{PARTIAL}"))).unwrap();
        prune(&folder.0, 0);
        assert_eq!(folder.names(), ["key.1.2.partial", "mine", "notes.txt"]);
        prune(&folder.0.join("missing"), 0);
    }
}
