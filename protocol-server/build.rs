//! Links the protocol server as one of Oriel's tasks.

include!("../userlib/link-args.rs");

fn main() {
    link_args("../userlib/link.ld");
    // Not where the applications are, so that an address in a profile says whose it is; as close to the stack as theirs.
    println!("cargo:rustc-link-arg-bins=-Wl,--defsym=PROGRAM_BASE=0x800000");
}
