//! Files that are there whole or not at all: written beside their place, synced, renamed.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, Result};

const PREFIX: &str = ".flatmin-";
const SUFFIX: &str = ".partial";

/// A file in the making; what was written counts only after [`Self::keep`].
pub(crate) struct NewFile {
    file: BufWriter<NamedTempFile>,
    sum: Sha256,
    bytes: u64,
}

impl NewFile {
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        let mut builder = Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        Ok(Self { file: BufWriter::with_capacity(1 << 20, builder.tempfile_in(dir)?), sum: Sha256::new(), bytes: 0 })
    }

    /// Puts the file in its place; gives its size and the SHA-256 sum of its contents.
    pub(crate) fn keep(self, path: &Path) -> io::Result<(u64, String)> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok((self.bytes, hex(&self.sum.finalize())))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a whole file.
pub(crate) fn write(path: &Path, contents: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NewFile::create(folder).map_err(|source| cannot_write(path, source))?;
    let kept = file.write_all(contents).and_then(|()| file.keep(path));
    kept.map(drop).map_err(|source| cannot_write(path, source))
}

/// Takes away what interrupted writes left in a folder.
pub(crate) fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// SHA-256 sum and size of what a reader gives.
pub(crate) fn sum(mut reader: impl io::Read) -> io::Result<(u64, String)> {
    let (mut sum, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, hex(&sum.finalize())));
        }
        sum.update(&buffer[..read]);
        bytes += read as u64;
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn cannot_write(path: &Path, source: io::Error) -> Error {
    Error::Write { path: path.to_path_buf(), source }
}
