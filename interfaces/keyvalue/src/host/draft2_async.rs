//! `wasi:keyvalue@0.2.0-draft2` with asynchronous functions, as qwasr and omnia have it: a guest may have many calls under way
//! in one instance. So each function takes what it needs from the store first and awaits without it.

use wasmtime::component::{Accessor, Resource};

use super::session::{Cas, Handle, HasView, HostError, Told, View};

mod generated {
    wasmtime::component::bindgen!({
        path: "wit/draft2-async",
        world: "wasi:keyvalue/imports",
        imports: {
            "wasi:keyvalue/store.[drop]bucket": trappable,
            "wasi:keyvalue/atomics.[drop]cas": trappable,
            default: async | store | trappable,
        },
        with: { "wasi:keyvalue/store.bucket": crate::host::session::Handle, "wasi:keyvalue/atomics.cas": crate::host::session::Cas },
        trappable_error_type: { "wasi:keyvalue/store.error" => crate::host::session::HostError },
    });
}

pub(super) use self::generated::wasi::keyvalue::{atomics, batch, store};

fn with<T: 'static, R>(state: &Accessor<T, HasView>, work: impl FnOnce(View<'_>) -> R) -> R {
    state.with(|mut state| work(state.get()))
}

fn handle<T: 'static>(state: &Accessor<T, HasView>, bucket: &Resource<Handle>) -> Result<Handle, HostError> {
    with(state, |view| view.handle(bucket))
}

impl store::Host for View<'_> {
    fn convert_error(&mut self, error: HostError) -> wasmtime::Result<store::Error> {
        Ok(match self.tell(error)? {
            Told::NoSuchStore => store::Error::NoSuchStore,
            Told::AccessDenied => store::Error::AccessDenied,
            Told::Other(text) => store::Error::Other(text),
        })
    }
}

impl<T: 'static> store::HostWithStore<T> for HasView {
    async fn open(state: &Accessor<T, Self>, identifier: String) -> Result<Resource<Handle>, HostError> {
        let handle = with(state, |view| view.binding(&identifier))?.open().await?;
        with(state, |mut view| view.push(handle))
    }
}

impl store::HostBucket for View<'_> {
    fn drop(&mut self, bucket: Resource<Handle>) -> wasmtime::Result<()> {
        self.close(bucket)
    }
}

impl<T: 'static> store::HostBucketWithStore<T> for HasView {
    async fn get(state: &Accessor<T, Self>, bucket: Resource<Handle>, key: String) -> Result<Option<Vec<u8>>, HostError> {
        handle(state, &bucket)?.get(&key).await
    }

    async fn set(state: &Accessor<T, Self>, bucket: Resource<Handle>, key: String, value: Vec<u8>) -> Result<(), HostError> {
        handle(state, &bucket)?.set(&key, value).await
    }

    async fn delete(state: &Accessor<T, Self>, bucket: Resource<Handle>, key: String) -> Result<(), HostError> {
        handle(state, &bucket)?.delete(&key).await
    }

    async fn exists(state: &Accessor<T, Self>, bucket: Resource<Handle>, key: String) -> Result<bool, HostError> {
        handle(state, &bucket)?.exists(&key).await
    }

    async fn list_keys(
        state: &Accessor<T, Self>,
        bucket: Resource<Handle>,
        cursor: Option<String>,
    ) -> Result<store::KeyResponse, HostError> {
        let page = handle(state, &bucket)?.list_keys(cursor.as_deref()).await?;
        Ok(store::KeyResponse { keys: page.keys, cursor: page.cursor })
    }
}

impl atomics::Host for View<'_> {}

impl<T: 'static> atomics::HostWithStore<T> for HasView {
    async fn increment(state: &Accessor<T, Self>, bucket: Resource<Handle>, key: String, delta: i64) -> Result<i64, HostError> {
        handle(state, &bucket)?.increment(&key, delta).await
    }

    async fn swap(
        state: &Accessor<T, Self>,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), atomics::CasError>> {
        let swapped = match with(state, |mut view| view.take_cas(cas)) {
            Ok(cas) => cas.swap(value).await,
            Err(error) => Err(error),
        };
        with(state, |mut view| {
            let fresh = swapped.and_then(|fresh| fresh.map(|fresh| view.push_cas(fresh)).transpose());
            Ok(match fresh {
                Ok(None) => Ok(()),
                Ok(Some(fresh)) => Err(atomics::CasError::CasFailed(fresh)),
                Err(error) => Err(atomics::CasError::StoreError(store::Host::convert_error(&mut view, error)?)),
            })
        })
    }
}

impl atomics::HostCas for View<'_> {
    fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.close_cas(cas)
    }
}

impl<T: 'static> atomics::HostCasWithStore<T> for HasView {
    async fn new(state: &Accessor<T, Self>, bucket: Resource<Handle>, key: String) -> Result<Resource<Cas>, HostError> {
        let cas = handle(state, &bucket)?.look(key).await?;
        with(state, |mut view| view.push_cas(cas))
    }

    async fn current(state: &Accessor<T, Self>, cas: Resource<Cas>) -> Result<Option<Vec<u8>>, HostError> {
        with(state, |view| view.seen(&cas))
    }
}

impl batch::Host for View<'_> {}

impl<T: 'static> batch::HostWithStore<T> for HasView {
    async fn get_many(
        state: &Accessor<T, Self>,
        bucket: Resource<Handle>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, HostError> {
        let values = handle(state, &bucket)?.get_many(&keys).await?;
        Ok(keys.into_iter().zip(values).map(|(key, value)| Some((key, value?))).collect())
    }

    async fn set_many(
        state: &Accessor<T, Self>,
        bucket: Resource<Handle>,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> Result<(), HostError> {
        handle(state, &bucket)?.set_many(pairs).await
    }

    async fn delete_many(state: &Accessor<T, Self>, bucket: Resource<Handle>, keys: Vec<String>) -> Result<(), HostError> {
        handle(state, &bucket)?.delete_many(&keys).await
    }
}
