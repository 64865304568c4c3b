//! What a machine must still do after a test has done something to it: balance its books, and carry bytes both ways.

use std::thread;
use std::time::Duration;

use pattern::Digest;

use crate::console::PROMPT;
use crate::error::{Context as _, Result, failed};
use crate::network::Link;
use crate::results::Fields;
use crate::traffic::{self, Until};
use crate::vm::Vm;

/// Long enough for a command that says what is.
const SOON: Duration = Duration::from_secs(30);

/// Every mbuf and cluster is accounted for, every frame delivered or its drop counted.
pub fn audit(vm: &mut Vm) -> Result<()> {
    // The last frames of a connection that just ended may still be on their way.
    thread::sleep(Duration::from_millis(300));
    let output = vm.console.command("mbstat -c", SOON)?;
    // Behind it may stand that something else in the background has ended.
    if output.contains("mbstat: balanced") {
        Ok(())
    } else {
        failed(format!("the books don't balance:\n{output}"))
    }
}

/// A counter of the guest's.
pub fn counter(vm: &mut Vm, name: &str) -> Result<u64> {
    let output = vm.console.command("mbstat -M", SOON)?;
    Fields::require(&output, "mbstat")?.require_number(name)
}

/// So many bytes by ttcp into the guest, at this port, by writes of `length`; the guest has the right digest of them.
pub fn into_guest(
    vm: &mut Vm,
    link: &Link,
    port: u16,
    (length, bytes): (usize, u64),
    patience: Duration,
) -> Result<()> {
    vm.console.type_line(&format!("ttcp -r -s -l 8192 -p {port} -M"))?;
    vm.console.expect(&format!("listening on {port}"), patience)?;
    let mut stream = traffic::connect(link.guest(port))?;
    traffic::send(&mut stream, length, Until::Bytes(bytes)).context("into the guest")?;
    drop(stream);
    let output = vm.console.expect(PROMPT, patience)?;
    let fields = Fields::require(&output, "ttcp")?;
    if fields.number("bytes") != Some(bytes) || fields.digest() != Some(Digest::of_pattern(bytes)) {
        return failed(format!("into the guest: {bytes} bytes were sent: {output}"));
    }
    Ok(())
}

/// So many buffers of `length` by ttcp out of the guest; each byte is right.
pub fn out_of_guest(
    vm: &mut Vm,
    link: &Link,
    (length, buffers): (u64, u64),
    patience: Duration,
) -> Result<()> {
    let listener = traffic::listen(link.listen_address(), 0)?;
    let port = listener.local_addr().context("listener")?.port();
    let receiver = traffic::spawn_receiver(listener, true);
    let line = format!("ttcp -t -s -l {length} -n {buffers} -p {port} -M {}", link.host);
    let output = vm.console.command(&line, patience)?;
    let moved = traffic::join(receiver)?;
    if moved.count != length * buffers || moved.first_error.is_some() {
        return failed(format!("out of the guest: {moved:?}\n{output}"));
    }
    Ok(())
}
