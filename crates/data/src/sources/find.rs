//! The folder that holds the files of a set, among those in which people keep them.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Files of a set in one of its versions.
pub(crate) struct Wanted<'a> {
    pub(crate) title: &'static str,
    /// Folders below the one that the user named; `""` is that one itself.
    pub(crate) folders: &'a [&'a str],
    pub(crate) files: &'a [&'a str],
    /// Endings that a file may have beyond its name, such as `.gz`; `""`: none.
    pub(crate) endings: &'a [&'a str],
}

impl Wanted<'_> {
    /// The folder that holds all the files.
    ///
    /// Errors with `ERR_FLATMIN_PATH`, naming what the most complete folder lacks, and `fix`.
    pub(crate) fn find(&self, dir: &Path, fix: impl FnOnce() -> String) -> Result<PathBuf> {
        let missing = |folder: &Path| -> Vec<String> {
            let absent = self.files.iter().filter(|file| self.path(folder, file).is_none());
            absent.map(|&file| file.to_owned()).collect()
        };
        let searched: Vec<PathBuf> = self.folders.iter().map(|folder| dir.join(folder)).collect();
        let best = searched.iter().min_by_key(|folder| missing(folder).len());
        let folder = best.map_or(dir, PathBuf::as_path).to_path_buf();
        let missing = missing(&folder);
        if missing.is_empty() {
            return Ok(folder);
        }
        Err(Error::MissingSet { set: self.title, fix: fix(), searched, missing })
    }

    /// Where a file lies, with the ending it has.
    pub(crate) fn path(&self, folder: &Path, file: &str) -> Option<PathBuf> {
        let paths = self.endings.iter().map(|ending| folder.join(format!("{file}{ending}")));
        paths.into_iter().find(|path| path.exists())
    }
}
