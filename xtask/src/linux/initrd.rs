//! The Linux guest's first file system: busybox, the modules, the programs, and the script that is its first process.

use std::fs;
use std::path::Path;

use super::packages::Parts;
use crate::console::PROMPT;
use crate::cpio::{self, Member};
use crate::error::{Context as _, Result};

/// What the guest needs, if its kernel has it not built in. What these need themselves they say.
const DRIVERS: &[&str] = &["virtio_pci", "virtio_net", "e1000"];
/// Where the programs are that stand before busybox's of the same name.
const PROGRAM: &str = "oriel/linux-guest";
const NAMES: &[&str] = &["ttcp", "echo", "ping", "ftp", "xdots", "offload", "poweroff"];

/// The archive.
pub fn archive(parts: &Parts, program: &Path) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).context(path.display());
    let mut modules: Vec<(String, Vec<u8>)> = Vec::new();
    for driver in DRIVERS {
        load(driver, parts, &mut modules)?;
    }
    let order: Vec<&str> = modules.iter().map(|(name, _)| name.as_str()).collect();
    let (script, busybox, program) = (script(&order), read(&parts.busybox)?, read(program)?);
    let members: Vec<_> =
        modules.iter().map(|(name, content)| (format!("modules/{name}.ko"), content)).collect();
    let folders = ["bin", "dev", "modules", "oriel", "proc", "sys"].map(|name| (name, Member::Folder));
    let files = [
        ("init", Member::File(script.as_bytes())),
        ("bin/busybox", Member::File(&busybox)),
        (PROGRAM, Member::File(&program)),
    ];
    let links: Vec<String> = NAMES.iter().map(|name| format!("oriel/{name}")).collect();
    let links = links.iter().map(|name| (name.as_str(), Member::Link("linux-guest")));
    let modules = members.iter().map(|(name, content)| (name.as_str(), Member::File(content)));
    Ok(cpio::tree(folders.into_iter().chain(files).chain(links).chain(modules)))
}

/// Puts a module at the end of the list, behind those that it needs. What the package does not have is built in.
fn load(name: &str, parts: &Parts, list: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let path = parts.modules.iter().find(|(module, _)| module == name).map(|(_, path)| path);
    let Some(path) = path.filter(|_| list.iter().all(|(there, _)| there != name)) else { return Ok(()) };
    let content = fs::read(path).context(path.display())?;
    for needed in needs(&content) {
        load(&needed, parts, list)?;
    }
    list.push((name.to_owned(), content));
    Ok(())
}

/// The modules that this one says it needs, in its `.modinfo`. The graph has no cycles, or nobody could load it.
fn needs(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let names = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(names);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

/// The first process. It reads lines and runs them, as Oriel's shell does; busybox's own shell would edit them first, and
/// send the terminal's codes along. Our programs are called by their full names: busybox takes its own `ping` and `echo` whatever the
/// path says.
fn script(modules: &[&str]) -> String {
    format!(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin\n\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n\
         for module in {}; do\n\
         insmod /modules/$module.ko\n\
         done\n\
         ip link set lo up\n\
         ip addr add $guest_ip dev eth0\n\
         ip link set eth0 up\n\
         ip route add default via $guest_gw\n\
         until [ \"$(cat /sys/class/net/eth0/carrier 2>/dev/null)\" = 1 ]; do usleep 20000; done\n\
         /oriel/offload $offload\n\
         while printf '{PROMPT}' && read -r line; do\n\
         if [ -f /oriel/${{line%% *}} ]; then /oriel/$line; else $line; fi\n\
         done\n\
         /oriel/poweroff\n",
        modules.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_in_the_archive_once() {
        let folder = temp_dir::TempDir::new().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            fs::write(&path, name).unwrap();
            path
        };
        let module = |name: &str, needs: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("\x7fELF\0license=GPL\0depends={needs}\0name={name}\0")).unwrap();
            (name.to_owned(), path)
        };
        let modules = [
            module("e1000", ""),
            module("virtio_net", "virtio_ring,virtio,built_in"),
            module("virtio", "virtio_ring"),
            module("virtio_ring", ""),
            module("virtio_gpu", ""),
        ];
        let parts = Parts { busybox: file("busybox"), modules: modules.into(), ..Parts::default() };
        let archive = archive(&parts, &file("program")).unwrap();
        let count = |name: &[u8]| archive.windows(name.len()).filter(|window| *window == name).count();
        assert_eq!(count(b"modules/e1000.ko\0"), 1);
        assert_eq!(count(b"oriel/ttcp\0"), 1);
        assert_eq!(count(b"modules/virtio_gpu.ko"), 0, "only what is loaded");
        assert_eq!(
            count(b"for module in virtio_ring virtio virtio_net e1000; do"),
            1,
            "each after what it needs"
        );
        assert_eq!(count(b"while printf 'oriel> '"), 1);
    }
}
