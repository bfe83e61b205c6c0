//! Replaces a whole folder at once: it is written under a temporary name, synced, and then takes the old one's place,
//! so that a reader or a crash sees either the old folder or the new one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::{Error, Result};

const TEMPORARY_PREFIX: &str = ".writing-";

/// Lets `write` fill a temporary folder beside `target`, then puts it in `target`'s place. If anything fails, `target`
/// is as before and nothing is left behind.
///
/// # Errors
/// What `write` answered, or `ERR_FLATMIN_PATH`.
pub fn replace(target: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, error))?;
    let temporary = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .permissions(fs::Permissions::from_mode(0o777)) // as mkdir: less the umask
        .tempdir_in(parent)
        .map_err(|error| Error::io("create a folder in", parent, error))?;
    write(temporary.path())?;
    sync_folder(temporary.path())?;
    // After an exchange the temporary folder is the old one, and dropping it removes that.
    exchange(temporary.path(), target).map_err(|error| Error::io("replace", target, error))?;
    sync(parent)
}

/// Where to read `target`: itself, or what [`replace`] had set aside if it was interrupted on a file system that cannot
/// exchange two folders in one step.
pub fn readable(target: &Path) -> PathBuf {
    let aside = set_aside(target);
    if !target.exists() && aside.exists() { aside } else { target.to_path_buf() }
}

/// Removes what interrupted writers left in a folder.
pub fn clean(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            // Left-overs only cost space: a failure to remove them must not stop a run.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn exchange(new: &Path, target: &Path) -> std::io::Result<()> {
    if !target.exists() {
        return fs::rename(new, target);
    }
    match renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => exchange_in_two_steps(new, target),
        other => Ok(other?),
    }
}

fn exchange_in_two_steps(new: &Path, target: &Path) -> std::io::Result<()> {
    let aside = set_aside(target);
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    fs::rename(target, &aside)?;
    if let Err(error) = fs::rename(new, target) {
        fs::rename(&aside, target)?;
        return Err(error);
    }
    fs::remove_dir_all(&aside)
}

fn set_aside(target: &Path) -> PathBuf {
    let mut name = OsString::from(".previous-");
    name.push(target.file_name().unwrap_or_default());
    target.with_file_name(name)
}

fn sync_folder(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|error| Error::io("read", folder, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read", folder, error))?;
        sync(&entry.path())?;
    }
    sync(folder)
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| Error::io("sync", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &'static str) -> impl FnOnce(&Path) -> Result<()> {
        move |folder| {
            fs::write(folder.join("a"), text).unwrap();
            Ok(())
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn takes_the_place_of_the_old_folder() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("checkpoints/last");
        replace(&target, write("one")).unwrap();
        fs::write(target.join("stale"), "").unwrap();
        replace(&target, write("two")).unwrap();
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "two");
        assert_eq!(names(&target), ["a"]);
        assert_eq!(names(target.parent().unwrap()), ["last"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_folder() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("last");
        replace(&target, write("one")).unwrap();
        let failing = |folder: &Path| {
            fs::write(folder.join("a"), "half").unwrap();
            Err(Error::Internal("disk full".into()))
        };
        assert!(replace(&target, failing).is_err());
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "one");
        assert_eq!(names(root.path()), ["last"]);
    }

    #[test]
    fn two_steps_do_the_same_and_an_interruption_is_readable() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("last");
        replace(&target, write("one")).unwrap();
        let new = root.path().join("new");
        fs::create_dir(&new).unwrap();
        fs::write(new.join("a"), "two").unwrap();
        exchange_in_two_steps(&new, &target).unwrap();
        assert_eq!(names(root.path()), ["last"]);
        assert_eq!(fs::read_to_string(readable(&target).join("a")).unwrap(), "two");
        fs::rename(&target, set_aside(&target)).unwrap();
        assert_eq!(fs::read_to_string(readable(&target).join("a")).unwrap(), "two");
    }

    #[test]
    fn left_overs_are_cleaned() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".writing-xyz")).unwrap();
        fs::create_dir(root.path().join("last")).unwrap();
        clean(root.path());
        assert_eq!(names(root.path()), ["last"]);
    }
}
