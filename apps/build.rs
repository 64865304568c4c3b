//! Links the applications as Oriel's tasks.

include!("../userlib/link-args.rs");

fn main() {
    link_args("../userlib/link.ld");
}
