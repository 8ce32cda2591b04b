//! Files with secrets that everybody on the machine can read.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use wsray_config::{Config, Diagnostic};

/// What others may do with a file or a folder (inode(7)).
const OTHERS_READ: u32 = 0o004;
const OTHERS_PASS: u32 = 0o001;

/// A warning for each of them.
pub(super) fn readable_by_everybody(config: &Config) -> Vec<Diagnostic> {
    let open = config.secret_files().into_iter().filter(|file| is_open(Path::new(file.path)));
    open.map(|file| {
        let message = format!("everybody on this machine can read {}", file.holds);
        let help = format!("chmod 600 {}, and let the user that wsray runs as own it", file.path);
        Diagnostic::at(file.place, message).help(help)
    })
    .collect()
}

/// Whether every user can read it: so say its own permissions and those of the folders that lead there. What is no file,
/// such as standard input, is not.
fn is_open(path: &Path) -> bool {
    let has = |path: &Path, wanted| {
        fs::metadata(path).is_ok_and(|found| found.permissions().mode() & wanted == wanted)
    };
    let Ok(path) = fs::canonicalize(path) else { return false };
    path.is_file()
        && has(&path, OTHERS_READ)
        && path.ancestors().skip(1).all(|folder| has(folder, OTHERS_PASS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_open_only_if_others_may_read_it_and_pass_all_its_folders() {
        let folder = std::env::temp_dir().join(format!(
            "wsray-secrets-{}-{:x}",
            std::process::id(),
            rand::random::<u64>()
        ));
        fs::create_dir(&folder).unwrap();
        let file = folder.join("config.json");
        fs::write(&file, "{}").unwrap();
        for (of_folder, of_file, open) in
            [(0o755, 0o644, true), (0o711, 0o604, true), (0o755, 0o640, false), (0o700, 0o644, false)]
        {
            chmod(&folder, of_folder);
            chmod(&file, of_file);
            assert_eq!(is_open(&file), open, "{of_folder:o} {of_file:o}");
        }
        assert!(!is_open(&folder) && !is_open(Path::new("stdin")));
        fs::remove_dir_all(folder).unwrap();
    }
}
