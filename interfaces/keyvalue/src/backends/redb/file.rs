//! The file: created whole, opened again after a failure.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use redb::{Builder, Database, DatabaseError, Error, ReadOnlyTable, ReadableDatabase, TableDefinition, WriteTransaction};

/// Whole keys ([`crate::Bucket::key`]) and values.
pub(super) const PAIRS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("pairs");

/// A snapshot of [`PAIRS`].
pub(super) type Pairs = ReadOnlyTable<&'static str, &'static [u8]>;

/// How long to wait for another holder of the file: one that is just being dropped, or the worker that this one replaces.
const LOCKED_MAX: Duration = Duration::from_secs(2);

/// How often to look.
const LOCKED_EVERY: Duration = Duration::from_millis(10);

/// Opens the database, the first time and after each failure.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, Error> + Send + Sync>;

/// A database that is reopened when it failed: redb answers everything after an I/O error with an error, even when the disk
/// has room again, until it is opened anew.
pub(super) struct File {
    opener: Opener,
    /// None after a failure, until it is open again.
    database: RwLock<Option<Database>>,
}

impl File {
    pub(super) fn open(opener: Opener) -> Result<Self, Error> {
        let database = RwLock::new(Some(opener()?));
        Ok(Self { opener, database })
    }

    /// Reads a snapshot. On an error somebody must see to [`File::heal`].
    pub(super) fn read<T>(&self, read: impl FnOnce(&Pairs) -> Result<T, Error>) -> Result<T, Error> {
        // Whoever has the lock reopens the file, and this may be a thread that must not wait for that.
        let database = match self.database.try_read() {
            Ok(database) => database,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Error::DatabaseClosed),
        };
        let database = database.as_ref().ok_or(Error::DatabaseClosed)?;
        read(&database.begin_read()?.open_table(PAIRS)?)
    }

    /// Makes one durable transaction. On an error somebody must see to [`File::reopen`].
    pub(super) fn write<T>(&self, write: impl FnOnce(&WriteTransaction) -> Result<T, Error>) -> Result<T, Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(Error::DatabaseClosed)?;
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        let result = write(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    /// Reopens the file if reading fails.
    pub(super) fn heal(&self) {
        if self.read(|_| Ok(())).is_err() {
            self.reopen();
        }
    }

    /// Closes the file and opens it again.
    pub(super) fn reopen(&self) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Closed before it is opened: the lock on the file is ours.
        *database = None;
        match (self.opener)() {
            Ok(open) => *database = Some(open),
            Err(error) => tracing::error!(%error, "the key-value file cannot be opened"),
        }
    }
}

/// Opens or creates the file at `path`.
pub(super) fn on_disk(path: PathBuf, cache_bytes: usize) -> Opener {
    Box::new(move || {
        if !fs::exists(&path)? {
            create(&path)?;
        }
        let began = Instant::now();
        loop {
            match Builder::new().set_cache_size(cache_bytes).open(&path) {
                Err(DatabaseError::DatabaseAlreadyOpen) if began.elapsed() < LOCKED_MAX => std::thread::sleep(LOCKED_EVERY),
                result => return Ok(result?),
            }
        }
    })
}

/// Creates the file under another name first: redb refuses a file whose creation was cut short, so a crash at the wrong
/// moment of the very first start would be the last.
fn create(path: &Path) -> Result<(), Error> {
    let temporary = path.with_added_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let database = Database::create(&temporary)?;
    create_table(&database)?;
    drop(database);
    fs::rename(&temporary, path)?;
    // The name is durable only when the folder is.
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    Ok(())
}

/// Makes the table, so that reads need not ask whether there is one.
pub(super) fn create_table(database: &Database) -> Result<(), Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(PAIRS)?;
    Ok(transaction.commit()?)
}

/// The one name of a file that may not be there yet; makes its folder.
pub(super) fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path of a key-value file must name a file"));
    };
    fs::create_dir_all(folder)?;
    Ok(folder.canonicalize()?.join(name))
}
