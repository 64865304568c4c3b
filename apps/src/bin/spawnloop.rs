//! spawnloop: spawns tasks that end at once, one after the other: what a task leaves behind adds up here.
#![no_std]
#![no_main]

use abi::{message::NOTIFY_DEAD_NAME, port, thread::PRIORITY_APPLICATION};
use apps::{During, Failed};
use userlib::{
    entry::{Args, ExitStatus},
    message::receive,
    port::ReceiveRight,
    println,
    task::Task,
};

userlib::entry!(main);

/// What a child of it is told, and ends with.
const CHILD: &str = "child";
const CHILD_STATUS: u32 = 42;

fn main(mut args: Args) -> Result<ExitStatus, Failed> {
    let count = match args.next() {
        Some(CHILD) => return Ok(ExitStatus(CHILD_STATUS.into())),
        text => match apps::number(text.unwrap_or("100"), 1..=1_000_000) {
            Ok(count) => count,
            Err(usage) => return Ok(apps::misused("spawnloop", &usage, "[COUNT]")),
        },
    };
    let notify = ReceiveRight::allocate().during("port")?;
    for number in 0..count {
        let child = Task::spawn("spawnloop", CHILD, PRIORITY_APPLICATION, port::BOOTSTRAP).during("spawn")?;
        child.right().notify_dead(&notify).during("notify")?;
        let message = receive(&notify, None).during("receive")?;
        let told = (message.id, message.word(0), message.word(1));
        if told != (NOTIFY_DEAD_NAME, Some(child.right().name()), Some(CHILD_STATUS)) {
            println!("spawnloop: child {number} ended with {told:x?}");
            return Ok(ExitStatus(1));
        }
    }
    println!("spawnloop: {count} tasks, ok");
    Ok(ExitStatus(0))
}
