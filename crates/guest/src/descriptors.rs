//! Files and directories that components open, counted.
//!
//! wasmtime bounds a component's resources of all kinds together, but each file is one of the process's descriptors, which are fewer.
//! So the one function that opens files is replaced, in both generations, by one that asks first.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use wasmtime::component::{Accessor, Linker, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::types as p2;
use wasmtime_wasi::p3::bindings::filesystem::types as p3;

use crate::preview1::{Place, Places};
use crate::state::State;

const TYPES_02: &str = "wasi:filesystem/types@0.2.12";
const TYPES_03: &str = "wasi:filesystem/types@0.3.0";
const OPEN_AT: &str = "[method]descriptor.open-at";
const DESCRIPTOR: &str = "descriptor";

/// What a component has open.
#[derive(Default)]
pub(crate) struct Open {
    count: Arc<AtomicUsize>,
    /// By their numbers in its table.
    held: HashMap<u32, Held>,
    /// Closed by the guest, but its streams may still read or write them.
    lingering: Vec<(Weak<File>, Held)>,
}

/// The permission to have one more open, of the component and of the process, also while it is being opened.
struct Held {
    count: Arc<AtomicUsize>,
    _place: Place,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Relaxed);
    }
}

impl Open {
    fn take(&mut self, places: &Arc<Places>, max: u32) -> Option<Held> {
        self.lingering.retain(|(file, _)| file.strong_count() > 0);
        if self.count.load(Relaxed) >= max as usize {
            return None;
        }
        let place = places.take()?;
        self.count.fetch_add(1, Relaxed);
        Some(Held { count: Arc::clone(&self.count), _place: place })
    }

    fn opened(&mut self, descriptor: Option<&Resource<Descriptor>>, held: Held) {
        if let Some(descriptor) = descriptor {
            self.held.insert(descriptor.rep(), held);
        }
    }
}

/// Replaces what opens and closes files by what counts them. Shadowing must be allowed.
pub(crate) fn add_to_linker(linker: &mut Linker<State>, concurrent: bool) -> Result<()> {
    let mut types = linker.instance(TYPES_02)?;
    types.resource(DESCRIPTOR, ResourceType::host::<Descriptor>(), close)?;
    types.func_wrap_async(OPEN_AT, |store, params| Box::new(open_02(store, params)))?;
    if concurrent {
        let mut types = linker.instance(TYPES_03)?;
        types.resource(DESCRIPTOR, ResourceType::host::<Descriptor>(), close)?;
        types.func_wrap_concurrent(OPEN_AT, |accessor, params| Box::pin(open_03(accessor, params)))?;
    }
    Ok(())
}

fn close(mut store: StoreContextMut<'_, State>, number: u32) -> Result<()> {
    let descriptor = store.data_mut().filesystem().table.delete(Resource::<Descriptor>::new_own(number))?;
    let file = match &descriptor {
        Descriptor::File(file) => Arc::downgrade(&file.file),
        Descriptor::Dir(dir) => Arc::downgrade(&dir.dir),
    };
    drop(descriptor);
    let open = &mut store.data_mut().component().open;
    if let Some(held) = open.held.remove(&number).filter(|_| file.strong_count() > 0) {
        open.lingering.push((file, held));
    }
    Ok(())
}

fn take(state: &mut State) -> Option<Held> {
    let active = state.active();
    state.component().open.take(&active.core.places, active.module.limits.descriptors)
}

type Params02 = (Resource<Descriptor>, p2::PathFlags, String, p2::OpenFlags, p2::DescriptorFlags);

async fn open_02(
    mut store: StoreContextMut<'_, State>,
    (directory, path_flags, path, open_flags, flags): Params02,
) -> Result<(Result<Resource<Descriptor>, p2::ErrorCode>,)> {
    let Some(place) = take(store.data_mut()) else { return Ok((Err(p2::ErrorCode::Quota),)) };
    let mut filesystem = store.data_mut().filesystem();
    let opened = p2::HostDescriptor::open_at(&mut filesystem, directory, path_flags, path, open_flags, flags).await;
    store.data_mut().component().open.opened(opened.as_ref().ok(), place);
    match opened {
        Ok(descriptor) => Ok((Ok(descriptor),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

type Params03 = (Resource<Descriptor>, p3::PathFlags, String, p3::OpenFlags, p3::DescriptorFlags);

async fn open_03(
    accessor: &Accessor<State>,
    (directory, path_flags, path, open_flags, flags): Params03,
) -> Result<(Result<Resource<Descriptor>, p3::ErrorCode>,)> {
    let Some(place) = accessor.with(|mut store| take(store.get())) else { return Ok((Err(p3::ErrorCode::Quota),)) };
    let filesystem = accessor.with_getter::<WasiFilesystem>(State::filesystem);
    let opened = <WasiFilesystem as p3::HostDescriptorWithStore<State>>::open_at(
        &filesystem,
        directory,
        path_flags,
        path,
        open_flags,
        flags,
    )
    .await;
    accessor.with(|mut store| store.get().component().open.opened(opened.as_ref().ok(), place));
    match opened {
        Ok(descriptor) => Ok((Ok(descriptor),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}
