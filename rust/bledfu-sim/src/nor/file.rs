// SPDX-License-Identifier: Apache-2.0
//! Chips whose content is in a file. Not where there are no files, as in a browser.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{Chip, NorError, OpenError};
use crate::parts::Part;
use crate::power::Power;

impl Chip {
    /// A chip whose content is in the file `path`, which is created erased if it does not exist. The file is locked
    /// while the chip lives.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read or created, has another size than the part, or is in use.
    pub fn open(
        name: &'static str,
        part: &'static Part,
        path: &Path,
        power: &Power,
    ) -> Result<Self, OpenError> {
        let shown = path.display().to_string();
        let io = |source| OpenError::Io {
            path: shown.clone(),
            source,
        };
        if !path.try_exists().map_err(io)? {
            // A kill while the file is being created must not leave a short file under its name.
            let fresh = path.with_extension("new");
            let mut file = File::create(&fresh).map_err(io)?;
            file.write_all(&vec![0xFF; part.size as usize]).map_err(io)?;
            file.sync_all().map_err(io)?;
            std::fs::rename(&fresh, path).map_err(io)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse { path: shown.clone() },
            TryLockError::Error(error) => io(error),
        })?;
        let found = file.metadata().map_err(io)?.len();
        if found != u64::from(part.size) {
            return Err(OpenError::WrongSize {
                path: shown,
                found,
                part: part.name,
                expected: u64::from(part.size),
            });
        }
        let mut cells = Vec::with_capacity(part.size as usize);
        file.read_to_end(&mut cells).map_err(io)?;
        Ok(Self::from_cells(name, part, cells, Some(file), power))
    }
}

/// Writes bytes of a chip into its file.
pub(super) fn store(mut file: &File, bytes: &[u8], at: u64) -> Result<(), NorError> {
    file.seek(SeekFrom::Start(at))
        .and_then(|_| file.write_all(bytes))
        .map_err(|error| NorError::File(error.kind()))
}
