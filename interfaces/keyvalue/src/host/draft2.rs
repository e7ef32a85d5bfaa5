//! `wasi:keyvalue@0.2.0-draft2` with synchronous functions, as upstream and Spin have it.

use wasmtime::component::Resource;

use super::session::{Cas, Handle, HostError, Told, View};

mod generated {
    wasmtime::component::bindgen!({
        path: "wit/draft2",
        world: "wasi:keyvalue/imports",
        imports: {
            "wasi:keyvalue/store.[drop]bucket": trappable,
            "wasi:keyvalue/atomics.[drop]cas": trappable,
            "wasi:keyvalue/atomics.[method]cas.current": trappable,
            default: async | trappable,
        },
        with: { "wasi:keyvalue/store.bucket": crate::host::session::Handle, "wasi:keyvalue/atomics.cas": crate::host::session::Cas },
        trappable_error_type: { "wasi:keyvalue/store.error" => crate::host::session::HostError },
    });
}

pub(super) use self::generated::wasi::keyvalue::{atomics, batch, store};

impl store::Host for View<'_> {
    async fn open(&mut self, identifier: String) -> Result<Resource<Handle>, HostError> {
        let handle = self.binding(&identifier)?.open().await?;
        self.push(handle)
    }

    fn convert_error(&mut self, error: HostError) -> wasmtime::Result<store::Error> {
        Ok(match self.tell(error)? {
            Told::NoSuchStore => store::Error::NoSuchStore,
            Told::AccessDenied => store::Error::AccessDenied,
            Told::Other(text) => store::Error::Other(text),
        })
    }
}

impl store::HostBucket for View<'_> {
    async fn get(&mut self, bucket: Resource<Handle>, key: String) -> Result<Option<Vec<u8>>, HostError> {
        self.handle(&bucket)?.get(&key).await
    }

    async fn set(&mut self, bucket: Resource<Handle>, key: String, value: Vec<u8>) -> Result<(), HostError> {
        self.handle(&bucket)?.set(&key, value).await
    }

    async fn delete(&mut self, bucket: Resource<Handle>, key: String) -> Result<(), HostError> {
        self.handle(&bucket)?.delete(&key).await
    }

    async fn exists(&mut self, bucket: Resource<Handle>, key: String) -> Result<bool, HostError> {
        self.handle(&bucket)?.exists(&key).await
    }

    async fn list_keys(&mut self, bucket: Resource<Handle>, cursor: Option<String>) -> Result<store::KeyResponse, HostError> {
        let page = self.handle(&bucket)?.list_keys(cursor.as_deref()).await?;
        Ok(store::KeyResponse { keys: page.keys, cursor: page.cursor })
    }

    fn drop(&mut self, bucket: Resource<Handle>) -> wasmtime::Result<()> {
        self.close(bucket)
    }
}

impl atomics::Host for View<'_> {
    async fn increment(&mut self, bucket: Resource<Handle>, key: String, delta: i64) -> Result<i64, HostError> {
        self.handle(&bucket)?.increment(&key, delta).await
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> wasmtime::Result<Result<(), atomics::CasError>> {
        let swapped = match self.take_cas(cas) {
            Ok(cas) => cas.swap(value).await,
            Err(error) => Err(error),
        };
        let fresh = swapped.and_then(|fresh| fresh.map(|fresh| self.push_cas(fresh)).transpose());
        Ok(match fresh {
            Ok(None) => Ok(()),
            Ok(Some(fresh)) => Err(atomics::CasError::CasFailed(fresh)),
            Err(error) => Err(atomics::CasError::StoreError(store::Host::convert_error(self, error)?)),
        })
    }
}

impl atomics::HostCas for View<'_> {
    async fn new(&mut self, bucket: Resource<Handle>, key: String) -> Result<Resource<Cas>, HostError> {
        let cas = self.handle(&bucket)?.look(key).await?;
        self.push_cas(cas)
    }

    fn current(&mut self, cas: Resource<Cas>) -> Result<Option<Vec<u8>>, HostError> {
        self.seen(&cas)
    }

    fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.close_cas(cas)
    }
}

impl batch::Host for View<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Handle>,
        keys: Vec<String>,
    ) -> Result<Vec<(String, Option<Vec<u8>>)>, HostError> {
        let values = self.handle(&bucket)?.get_many(&keys).await?;
        Ok(keys.into_iter().zip(values).collect())
    }

    async fn set_many(&mut self, bucket: Resource<Handle>, pairs: Vec<(String, Vec<u8>)>) -> Result<(), HostError> {
        self.handle(&bucket)?.set_many(pairs).await
    }

    async fn delete_many(&mut self, bucket: Resource<Handle>, keys: Vec<String>) -> Result<(), HostError> {
        self.handle(&bucket)?.delete_many(&keys).await
    }
}
