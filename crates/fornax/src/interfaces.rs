//! The one table of interfaces. The backends of each are in its own `src/backends/mod.rs`.

use std::sync::Arc;

use guest::Interface;

/// Every interface of this build, not yet configured.
pub(crate) fn all() -> Vec<Arc<dyn Interface>> {
    vec![Arc::new(keyvalue::host::KeyValue::new())]
}

#[cfg(test)]
mod tests {
    use crate::config::BUILT_IN_BACKENDS;

    #[test]
    fn every_interface_has_the_backends_that_need_no_configuration() {
        let names: Vec<_> = keyvalue::backends::BUILT_IN.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, BUILT_IN_BACKENDS);
    }
}
