//! vmstat: free memory, and what of the kernel's tables is in use. Its own share is in the figures: one task, one thread, its ports and
//! pages, the same each time.
#![no_std]
#![no_main]

use apps::{During, Failed, Usage};
use userlib::{
    entry::{Args, ExitStatus},
    println, task, time,
};

userlib::entry!(main);

fn main(mut args: Args) -> Result<ExitStatus, Failed> {
    let machine = match args.next() {
        None => false,
        Some("-M") => true,
        Some(word) => return Ok(apps::misused("vmstat", &Usage::Extra(word), "[-M]")),
    };
    let usage = task::usage().during("usage")?;
    let task_pages: u64 = task::all().map(|task| task.pages).sum();
    println!("{:>8} KiB free", usage.free_pages * 4);
    println!("{:>8} KiB of the tasks' own", task_pages * 4);
    println!("{:>8} KiB of the kernel's heap in use", usage.heap_bytes / 1024);
    println!("{:>8} tasks", usage.tasks);
    println!("{:>8} threads", usage.threads);
    println!("{:>8} ports", usage.ports);
    println!("{:>8} memory objects", usage.objects);
    if machine {
        println!(
            "#vmstat free_pages={} task_pages={task_pages} heap_bytes={} tasks={} threads={} ports={} objects={} clock_ns={}",
            usage.free_pages,
            usage.heap_bytes,
            usage.tasks,
            usage.threads,
            usage.ports,
            usage.objects,
            time::now_ns()
        );
    }
    Ok(ExitStatus(0))
}
