#![no_main]

use std::sync::LazyLock;

use fornax::fuzzing::Plugin;

static PLUGIN: LazyLock<Plugin> = LazyLock::new(Plugin::new);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| PLUGIN.pointers(bytes));
