//! Whether files have changed since they were read.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Files and directories that are looked at now and then.
///
/// A change counts once it has settled: the same at two looks in a row, so that a file which is being written is not read
/// in the middle.
#[derive(Debug, Default)]
pub(super) struct Files {
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// As it was when it was read.
    read: Option<Stamp>,
    /// As it was at the last look.
    seen: Option<Stamp>,
}

/// What changes when a file is written, replaced or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// `None`: there is no such file now, or it cannot be looked at. Symbolic links are followed.
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self { inode: file.ino(), length: file.len(), modified: (file.mtime(), file.mtime_nsec()) })
    }
}

impl Files {
    /// These files, as they are now.
    pub(super) fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut paths: Vec<_> = paths.into_iter().collect();
        paths.sort();
        paths.dedup();
        let watched = paths.into_iter().map(|path| {
            let stamp = Stamp::of(&path);
            Watched { path, read: stamp, seen: stamp }
        });
        Self { watched: watched.collect() }
    }

    /// Looks at all of them: the first that has changed and settled. One that is gone is waited for.
    pub(super) fn changed(&mut self) -> Option<&Path> {
        let mut changed = None;
        for watched in &mut self.watched {
            let now = Stamp::of(&watched.path);
            if now.is_some() && now == watched.seen && now != watched.read {
                changed.get_or_insert(watched.path.as_path());
            }
            watched.seen = now;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        let path = std::env::temp_dir().join(format!(
            "wsray-files-{}-{:x}",
            std::process::id(),
            rand::random::<u64>()
        ));
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn a_change_counts_when_it_has_settled() {
        let folder = folder();
        let (a, b) = (folder.join("a"), folder.join("b"));
        fs::write(&a, "one").unwrap();
        fs::write(&b, "one").unwrap();
        let mut files = Files::new([a.clone(), b.clone()]);
        assert_eq!(files.changed(), None);
        fs::write(&b, "longer").unwrap();
        assert_eq!(files.changed(), None, "not settled");
        fs::write(&b, "longer still").unwrap();
        assert_eq!(files.changed(), None, "not settled yet");
        assert_eq!(files.changed(), Some(b.as_path()));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_is_replaced_or_comes_back_has_changed() {
        let folder = folder();
        let (file, other) = (folder.join("a"), folder.join("b"));
        fs::write(&file, "one").unwrap();
        let mut files = Files::new([file.clone()]);
        fs::remove_file(&file).unwrap();
        for _ in 0..3 {
            assert_eq!(files.changed(), None, "gone");
        }
        fs::write(&other, "two").unwrap();
        fs::rename(&other, &file).unwrap();
        assert_eq!(files.changed(), None, "not settled");
        assert_eq!(files.changed(), Some(file.as_path()));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_new_file_changes_its_folder() {
        let folder = folder();
        let mut files = Files::new([folder.clone()]);
        fs::write(folder.join("new"), "").unwrap();
        files.changed();
        assert_eq!(files.changed(), Some(folder.as_path()));
        fs::remove_dir_all(folder).unwrap();
    }
}
