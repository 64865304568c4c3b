//! Links the kernel's binary as a freestanding image; the library, tested on the host, is not affected.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=kernel.ld");
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for argument in [
        "-nostdlib",
        "-nostartfiles",
        "-static",
        "-no-pie",
        "-Wl,-z,norelro,-z,max-page-size=4096,--no-eh-frame-hdr,--build-id=none,--no-dynamic-linker",
        &format!("-T{folder}/kernel.ld"),
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
