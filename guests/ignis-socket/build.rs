//! Exports the allocator of the C library, which is where the host puts answers.

fn main() {
    println!("cargo:rustc-link-arg-bins=--export=malloc");
}
