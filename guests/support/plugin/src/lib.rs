//! A guest's side of the `process` ABI: two texts come in linear memory, lines go out through `host.log`, and a code is returned. There is
//! no WASI: an instance serves one call, so what it allocates is never freed.

use std::ptr::with_exposed_provenance;
use std::slice;

/// The codes a plugin returns; 0 is success.
pub type Code = i32;

/// The input is not UTF-8.
pub const INVALID_UTF8: Code = -1;
/// The input is nothing this plugin can work with.
pub const INVALID_INPUT: Code = -2;
/// The environment is not what it should be.
pub const ENVIRONMENT: Code = -6;

/// What the host tells with every call.
pub struct Environment<'a> {
    /// As JSON, the way it came.
    pub json: &'a str,
    /// A number that no other call gets.
    pub random_seed: i64,
    /// Nanoseconds since 1970.
    pub timestamp_ns: i64,
}

/// Exports `process`, which calls a function of input and environment, and the allocator `alloc`, where the host asks for room for both.
#[macro_export]
macro_rules! export {
    ($answer:path) => {
        /// Room for `len` bytes.
        #[unsafe(no_mangle)]
        pub extern "C" fn alloc(len: usize) -> usize {
            $crate::allocate(len)
        }

        $crate::export!($answer, no allocator);
    };
    ($answer:path, no allocator) => {
        /// One call.
        #[unsafe(no_mangle)]
        pub extern "C" fn process(input_ptr: usize, input_len: usize, env_ptr: usize, env_len: usize) -> i32 {
            $crate::process([input_ptr, input_len], [env_ptr, env_len], $answer)
        }
    };
}

mod host {
    #[link(wasm_import_module = "host")]
    unsafe extern "C" {
        /// One line of output, which has to be UTF-8.
        pub(crate) fn log(ptr: usize, len: usize);
    }
}

/// One line of output.
pub fn log(line: &str) {
    log_raw(line.as_ptr().expose_provenance(), line.len());
}

/// The same of any address and length, for those that want to know what the host does.
pub fn log_raw(ptr: usize, len: usize) {
    // SAFETY: the host reads, and it must refuse what is not this guest's memory; nothing here changes by it.
    unsafe { host::log(ptr, len) }
}

/// Room for `len` bytes that nobody else will use.
pub fn allocate(len: usize) -> usize {
    Vec::<u8>::with_capacity(len).leak().as_mut_ptr().expose_provenance()
}

/// The text of `len` bytes at an address; none where it is not UTF-8.
pub fn text<'a>([ptr, len]: [usize; 2]) -> Option<&'a str> {
    if len == 0 {
        return Some("");
    }
    // SAFETY: the host wrote this many bytes there before it called, and neither it nor anybody else changes them.
    let bytes = unsafe { slice::from_raw_parts(with_exposed_provenance(ptr), len) };
    str::from_utf8(bytes).ok()
}

/// Reads both texts and calls `answer` with them.
pub fn process(input: [usize; 2], env: [usize; 2], answer: fn(&str, &Environment<'_>) -> Result<(), Code>) -> Code {
    let Some(input) = text(input) else { return INVALID_UTF8 };
    let Some(environment) = text(env).and_then(environment) else { return ENVIRONMENT };
    answer(input, &environment).err().unwrap_or_default()
}

fn environment(json: &str) -> Option<Environment<'_>> {
    Some(Environment { json, random_seed: number(json, "random_seed")?, timestamp_ns: number(json, "timestamp")? })
}

/// A number of a flat JSON object: there is nothing else in an environment.
fn number(json: &str, key: &str) -> Option<i64> {
    let (_, rest) = json.split_once(&format!("\"{key}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = rest.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
