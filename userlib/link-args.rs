// Included by the build script of each package that makes programs for Oriel: a task is a static ELF file without the host's
// C library, laid out by `link.ld`.

fn link_args(script: &str) {
    let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rustc-link-arg-bins=-T{directory}/{script}");
    for argument in [
        "-nostdlib",
        "-nostartfiles",
        "-static",
        "-no-pie",
        "-Wl,-z,norelro,-z,max-page-size=4096,--no-eh-frame-hdr,--build-id=none",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
