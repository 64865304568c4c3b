//! The program of several names: `ttcp`, `echo`, `ping`, `ftp`, `xdots`, `offload`, `poweroff`.

use std::path::Path;
use std::process::ExitCode;

use linux_guest::{command::Words, echo, ftp, offload, ping, port, ttcp, xdots};

fn main() -> ExitCode {
    let mut words = std::env::args();
    let called = words.next().unwrap_or_default();
    let mut name =
        Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    // By its own name it takes the other as its first word.
    if name == env!("CARGO_BIN_NAME") {
        name = words.next().unwrap_or_default();
    }
    let words: Words = words.collect();
    let result = match name.as_str() {
        "ttcp" => ttcp::main(words),
        "echo" => echo::main(words),
        "ping" => ping::main(words),
        "ftp" => ftp::main(words),
        "xdots" => xdots::main(words),
        "offload" => offload::main(&words),
        "poweroff" => port::power_off(words),
        _ => Err("call it as ttcp, echo, ping, ftp, xdots, offload or poweroff".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            println!("{name}: {failed}");
            ExitCode::FAILURE
        }
    }
}
