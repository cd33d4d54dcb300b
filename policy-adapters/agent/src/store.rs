//! The data directory: `lock`, `desired.bin` (synced before the kernel is touched) and `meters.bin` (written
//! at each poll, good enough after a crash of the process and not missed after one of the machine).

use crate::outbox::Outbox;
use minicbor::{Decode, Encode};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tollway_linux::State;
use tollway_linux::state::Meters;

const MAGIC: &[u8; 4] = b"TWA1";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: cannot {doing}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{path}: another agent is running on this data directory", path = path.display())]
    Locked { path: PathBuf },
    #[error("{path}: damaged ({what}); move it away to start with an empty state", path = path.display())]
    Damaged { path: PathBuf, what: String },
}

#[derive(Encode)]
struct Written<'a> {
    #[n(0)]
    state: &'a State,
    #[n(1)]
    outbox: &'a Outbox,
}

#[derive(Decode)]
struct Read {
    #[n(0)]
    state: State,
    #[n(1)]
    outbox: Outbox,
}

#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// Held for as long as the process lives.
    _lock: File,
}

impl Store {
    /// Opens (and makes) the directory and takes its lock.
    ///
    /// # Errors
    /// With the path; also when another agent holds it.
    pub fn open(directory: &Path) -> Result<Store, Error> {
        let io = |path: &Path, doing| {
            let path = path.to_owned();
            move |source| Error::Io { path, doing, source }
        };
        std::fs::create_dir_all(directory).map_err(io(directory, "make the data directory"))?;
        let path = directory.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io(&path, "open the lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Store { directory: directory.to_owned(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::Locked { path }),
            Err(std::fs::TryLockError::Error(source)) => Err(io(&path, "take the lock")(source)),
        }
    }

    /// What was durable last; `None` in a new directory.
    ///
    /// # Errors
    /// When it cannot be read or is damaged: never a silent fresh start.
    pub fn load(&self) -> Result<Option<(State, Outbox)>, Error> {
        let path = self.directory.join("desired.bin");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path, doing: "read the state", source }),
        };
        let damaged = |what: String| Error::Damaged { path: path.clone(), what };
        let payload = unframe(&bytes).map_err(|what| damaged(what.into()))?;
        let read: Read = minicbor::decode(payload).map_err(|error| damaged(error.to_string()))?;
        let mut state = read.state;
        if let Some(meters) = self.load_meters() {
            state.adopt_meters(meters);
        }
        Ok(Some((state, read.outbox)))
    }

    fn load_meters(&self) -> Option<Meters> {
        let bytes = std::fs::read(self.directory.join("meters.bin")).ok()?;
        minicbor::decode(unframe(&bytes).ok()?).ok()
    }

    /// Makes state and outbox durable together.
    ///
    /// # Errors
    /// What the file system said; the older version stays.
    pub fn save(&self, state: &State, outbox: &Outbox) -> io::Result<()> {
        let payload = minicbor::to_vec(Written { state, outbox }).map_err(io::Error::other)?;
        self.replace("desired.bin", &payload, true)
    }

    /// Writes the meters, without waiting for the disk.
    ///
    /// # Errors
    /// What the file system said.
    pub fn save_meters(&self, state: &State) -> io::Result<()> {
        let payload = minicbor::to_vec(state.meters()).map_err(io::Error::other)?;
        self.replace("meters.bin", &payload, false)
    }

    fn replace(&self, name: &str, payload: &[u8], sync: bool) -> io::Result<()> {
        let target = self.directory.join(name);
        let temporary = self.directory.join(format!("{name}.new"));
        let mut file = File::create(&temporary)?;
        file.write_all(MAGIC)?;
        file.write_all(&crc32c::crc32c(payload).to_le_bytes())?;
        file.write_all(payload)?;
        if sync {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, &target)?;
        if sync {
            File::open(&self.directory)?.sync_all()?;
        }
        Ok(())
    }
}

fn unframe(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let (head, payload) = bytes.split_at_checked(8).ok_or("too short")?;
    let (magic, crc) = head.split_at(4);
    if magic != MAGIC {
        return Err("not an agent's state, or of another version");
    }
    if crc != crc32c::crc32c(payload).to_le_bytes() {
        return Err("its checksum does not fit");
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tollway-agent-{name}-{}", std::process::id()));
        let _old = std::fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn what_was_saved_is_loaded_and_each_flipped_byte_is_found() {
        let directory = scratch("store");
        let store = Store::open(&directory).expect("opens");
        assert!(store.load().expect("empty").is_none());
        let state = State { epoch: 7, ..State::default() };
        store.save(&state, &Outbox::default()).expect("saves");
        let (loaded, outbox) = store.load().expect("loads").expect("something");
        assert_eq!((loaded, outbox), (state, Outbox::default()));
        let path = directory.join("desired.bin");
        let good = std::fs::read(&path).expect("reads");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            std::fs::write(&path, &bad).expect("writes");
            assert!(matches!(store.load(), Err(Error::Damaged { .. })), "byte {at}");
        }
        std::fs::write(&path, &good[..good.len() - 1]).expect("writes");
        assert!(store.load().is_err());
        std::fs::remove_dir_all(&directory).expect("removes");
    }

    #[test]
    fn one_agent_per_directory() {
        let directory = scratch("lock");
        let first = Store::open(&directory).expect("opens");
        assert!(matches!(Store::open(&directory), Err(Error::Locked { .. })));
        drop(first);
        assert!(Store::open(&directory).is_ok());
        std::fs::remove_dir_all(&directory).expect("removes");
    }
}
