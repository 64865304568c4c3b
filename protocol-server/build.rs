//! Links the protocol server as one of Oriel's tasks.

include!("../userlib/link-args.rs");

fn main() {
    link_args("../userlib/link.ld");
}
