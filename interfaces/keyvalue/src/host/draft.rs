//! `wasi:keyvalue@0.2.0-draft`, as wasmtime has it: cursors are numbers, `increment` is unsigned.

use wasmtime::component::Resource;

use super::session::{Handle, HostError, Told, View};
use crate::Error;

mod generated {
    wasmtime::component::bindgen!({
        path: "wit/draft",
        world: "wasi:keyvalue/imports",
        imports: {
            "wasi:keyvalue/store.[drop]bucket": trappable,
            default: async | trappable,
        },
        with: { "wasi:keyvalue/store.bucket": crate::host::session::Handle },
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

    async fn list_keys(&mut self, bucket: Resource<Handle>, cursor: Option<u64>) -> Result<store::KeyResponse, HostError> {
        let cursor = cursor.map(|number| self.cursor_of(number)).transpose()?;
        let page = self.handle(&bucket)?.list_keys(cursor.as_deref()).await?;
        let cursor = page.cursor.map(|cursor| self.number_of(cursor));
        Ok(store::KeyResponse { keys: page.keys, cursor })
    }

    fn drop(&mut self, bucket: Resource<Handle>) -> wasmtime::Result<()> {
        self.close(bucket)
    }
}

impl atomics::Host for View<'_> {
    /// Numbers of stores are signed: what does not fit is an overflow. A sum below zero exists only where a guest of another
    /// shape counted down; there, too, the sum does not fit, but it was added.
    async fn increment(&mut self, bucket: Resource<Handle>, key: String, delta: u64) -> Result<u64, HostError> {
        let delta = i64::try_from(delta).map_err(|_| Error::Overflow)?;
        let sum = self.handle(&bucket)?.increment(&key, delta).await?;
        Ok(u64::try_from(sum).map_err(|_| Error::Overflow)?)
    }
}

impl batch::Host for View<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Handle>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, HostError> {
        let values = self.handle(&bucket)?.get_many(&keys).await?;
        Ok(keys.into_iter().zip(values).map(|(key, value)| Some((key, value?))).collect())
    }

    async fn set_many(&mut self, bucket: Resource<Handle>, pairs: Vec<(String, Vec<u8>)>) -> Result<(), HostError> {
        self.handle(&bucket)?.set_many(pairs).await
    }

    async fn delete_many(&mut self, bucket: Resource<Handle>, keys: Vec<String>) -> Result<(), HostError> {
        self.handle(&bucket)?.delete_many(&keys).await
    }
}
