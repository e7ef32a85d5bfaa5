//! A disk that fails and heals.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use ::redb::{Builder, StorageBackend};

use super::*;

/// A file in memory that outlives its database, on a disk that can be full.
#[derive(Clone, Debug, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().expect("no test panics with it")
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).expect("small");
        out.copy_from_slice(&self.lock()[from..from + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.lock().resize(usize::try_from(len).expect("small"), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        let from = usize::try_from(offset).expect("small");
        self.lock()[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn on(disk: &Disk) -> Redb {
    let new = AtomicBool::new(true);
    let disk = disk.clone();
    let opener = move || {
        let database = Builder::new().create_with_backend(disk.clone())?;
        if new.swap(false, Ordering::SeqCst) {
            file::create_table(&database)?;
        }
        Ok(database)
    };
    let file = Arc::new(File::open(Box::new(opener)).expect("opens"));
    Redb { writer: Writer::start(Arc::clone(&file)).expect("starts"), file }
}

#[tokio::test]
async fn a_disk_that_was_full_is_used_again_when_it_has_room() {
    let disk = Disk::default();
    let (store, bucket) = (on(&disk), Bucket::new("acme", "default"));
    store.set(&bucket, "k", "kept".into()).await.expect("works");

    disk.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(matches!(store.set(&bucket, "k", "lost".into()).await, Err(Error::Backend(_))));
    }

    disk.full.store(false, Ordering::SeqCst);
    // Whoever comes first may still be told of the failure, and has the file reopened.
    let mut tries = 0;
    while store.set(&bucket, "l", "later".into()).await.is_err() {
        tries += 1;
        assert!(tries < 3, "the store heals");
    }
    assert_eq!(store.get(&bucket, "k").await.expect("works").as_deref(), Some(b"kept".as_slice()));
    assert_eq!(store.get(&bucket, "l").await.expect("works").as_deref(), Some(b"later".as_slice()));
}

#[tokio::test]
async fn a_store_that_is_only_read_heals_too() {
    let disk = Disk::default();
    let (store, bucket) = (on(&disk), Bucket::new("acme", "default"));
    store.set(&bucket, "k", "kept".into()).await.expect("works");
    disk.full.store(true, Ordering::SeqCst);
    assert!(store.set(&bucket, "k", "lost".into()).await.is_err());
    disk.full.store(false, Ordering::SeqCst);
    let healed = async {
        while store.get(&bucket, "k").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), healed).await.expect("the store heals");
}

#[tokio::test]
async fn one_failing_write_does_not_spoil_its_neighbours() {
    let disk = Disk::default();
    let (store, bucket) = (on(&disk), Bucket::new("acme", "default"));
    store.set(&bucket, "text", "no number".into()).await.expect("works");
    let all = tokio::join!(
        store.increment(&bucket, "n", 1),
        store.increment(&bucket, "text", 1),
        store.compare_and_swap(&bucket, "n", Some(b"7"), "8".into()),
        store.increment(&bucket, "n", 1),
    );
    assert!(matches!(all, (Ok(1), Err(Error::NotANumber), Ok(false), Ok(2))), "{all:?}");
}
