//! usurper: tries to take what belongs to a protocol server, above all while there is none: its names, its place at the device, its address.
//!
//! A window that is nobody's it may have, and keeps. Whatever else it gets is a mistake of the name service's or the kernel's.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::{net::IpAddr, time::Duration};

use abi::supervise::SERVER;
use apps::{
    During, Failed, Usage,
    options::{Options, Word},
};
use userlib::{
    Error,
    device::Device,
    entry::{Args, ExitStatus},
    name,
    port::ReceiveRight,
    println, task, thread,
    time::Instant,
};

userlib::entry!(main);

const USAGE: &str = "[-t SECONDS] [-w COUNT] ADDRESS
    -w  so many openings of the device are nobody's, and may succeed";
/// What servers and the supervisor register.
const NAMES: [&str; 6] = ["net", "net1", "net3", "control-net", "control-net1", "supervisor"];
const PAUSE: Duration = Duration::from_millis(1);

fn main(args: Args) -> Result<ExitStatus, Failed> {
    let (mut seconds, mut spare, mut address) = (5, 0, None);
    let parse = || -> Result<IpAddr, Usage<'static>> {
        for word in Options::new(args, "tw") {
            match word? {
                Word::Option('t', text) => seconds = apps::number(text, 1..=3600)?,
                Word::Option('w', text) => spare = apps::number(text, 0..=16)?,
                Word::Option(option, _) => return Err(Usage::Unknown(option)),
                Word::Operand(text) if address.is_none() => address = Some(apps::address(text)?),
                Word::Operand(text) => return Err(Usage::Extra(text)),
            }
        }
        address.ok_or(Usage::Says("whose address?"))
    };
    let address = match parse() {
        Ok(address) => address,
        Err(usage) => return Ok(apps::misused("usurper", &usage, USAGE)),
    };
    let port = ReceiveRight::allocate().during("port")?;
    let mut devices = Vec::new();
    let (mut tries, mut alone) = (0_u64, 0_u64);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        let is_alone = !task::all().any(|row| task::program_name(&row) == SERVER);
        match try_all(&port, &mut devices, address) {
            Err(taken) => {
                println!("usurper: took {taken}");
                return Ok(ExitStatus(1));
            }
            Ok(()) if devices.len() as u64 > spare => {
                println!("usurper: opened the device {} times", devices.len());
                return Ok(ExitStatus(1));
            }
            Ok(()) => {}
        }
        tries += 1;
        alone += u64::from(is_alone);
        thread::sleep(PAUSE);
    }
    println!("usurper: {tries} tries, {alone} of them without a server: nothing taken");
    Ok(ExitStatus(0))
}

/// Everything once; what it should not have got.
fn try_all(port: &ReceiveRight, devices: &mut Vec<Device>, address: IpAddr) -> Result<(), &'static str> {
    for wanted in NAMES {
        if name::register(wanted.as_bytes(), port).is_ok() {
            return Err(wanted);
        }
    }
    if let Ok(device) = Device::open("net0") {
        devices.push(device);
    }
    for device in devices {
        // By message there are no claims.
        if !matches!(device.claim(address), Err(Error::Exists | Error::BadCall)) {
            return Err("the address");
        }
    }
    Ok(())
}
