//! The Linux guest's first file system: busybox, the modules, the programs, and the script that is its first process.

use std::fs;
use std::path::Path;

use super::packages::Parts;
use crate::console::PROMPT;
use crate::cpio::{self, Member};
use crate::error::{Context as _, Result};

/// In the order in which they can be loaded; what a kernel has built in is not there.
const MODULES: &[&str] = &[
    "virtio",
    "virtio_ring",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "dimlib",
    "virtio_net",
    "e1000",
];
/// Where the programs are that stand before busybox's of the same name.
const PROGRAM: &str = "oriel/linux-guest";
const NAMES: &[&str] = &["ttcp", "echo", "ping", "ftp", "xdots", "offload", "poweroff"];

/// The archive.
pub fn archive(parts: &Parts, program: &Path) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).context(path.display());
    let (script, busybox, program) = (script(), read(&parts.busybox)?, read(program)?);
    let mut members: Vec<(String, Vec<u8>)> = Vec::new();
    for module in MODULES {
        if let Some((_, path)) = parts.modules.iter().find(|(name, _)| name == module) {
            members.push((format!("modules/{module}.ko"), read(path)?));
        }
    }
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

/// The first process. It reads lines and runs them, as Oriel's shell does; busybox's own shell would edit them first, and
/// send the terminal's codes along. Our programs are called by their full names: busybox takes its own `ping` and `echo` whatever the
/// path says.
fn script() -> String {
    format!(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin\n\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n\
         for module in {}; do\n\
         [ ! -f /modules/$module.ko ] || insmod /modules/$module.ko\n\
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
        MODULES.join(" ")
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
        let modules = ["e1000", "virtio_net", "virtio_gpu"].map(|name| (name.to_owned(), file(name)));
        let parts = Parts { busybox: file("busybox"), modules: modules.into(), ..Parts::default() };
        let archive = archive(&parts, &file("program")).unwrap();
        let count = |name: &[u8]| archive.windows(name.len()).filter(|window| *window == name).count();
        assert_eq!(count(b"modules/e1000.ko\0"), 1);
        assert_eq!(count(b"oriel/ttcp\0"), 1);
        assert_eq!(count(b"modules/virtio_gpu.ko"), 0, "only what is loaded");
        assert_eq!(count(b"while printf 'oriel> '"), 1);
    }
}
