//! ps: lists the tasks.
#![no_std]
#![no_main]

use userlib::{entry::Args, println, task};

userlib::entry!(main);

fn main(_: Args) {
    println!("   ID THREADS PRI  PAGES NAMES    CPU ms NAME");
    for row in task::all() {
        println!(
            "{:>5} {:>7} {:>3} {:>6} {:>5} {:>9} {}",
            row.id,
            row.threads,
            row.priority,
            row.pages,
            row.names,
            row.cpu_ns / 1_000_000,
            task::program_name(&row)
        );
    }
}
