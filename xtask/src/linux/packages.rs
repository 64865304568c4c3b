//! Fetches Debian's kernel and busybox by `apt-get download`, and takes out of them what a guest needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context as _, Error, Result, failed};
use crate::setup;

/// The package that depends on the current kernel's.
const KERNEL: &str = "linux-image-amd64";
const BUSYBOX: &str = "busybox-static";
/// What is taken out: the kernel, busybox, and the two drivers with what they stand on. Older releases have `lib`, newer ones
/// `usr/lib`; what a kernel has built in has no file.
const MEMBERS: &[&str] = &[
    "*/vmlinuz-*",
    "*bin/busybox",
    "*/drivers/virtio/virtio*.ko*",
    "*/drivers/net/virtio_net.ko*",
    "*/drivers/net/net_failover.ko*",
    "*/net/core/failover.ko*",
    "*/lib/dim/dimlib.ko*",
    "*/drivers/net/ethernet/intel/e1000/e1000.ko*",
];

/// The files that a guest is made of.
#[derive(Debug, Default)]
pub struct Parts {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its version, out of the package's name.
    pub version: String,
    /// busybox, static.
    pub busybox: PathBuf,
    /// Modules by name, not compressed.
    pub modules: Vec<(String, PathBuf)>,
}

/// Finds the parts in the folder, or fetches the packages first.
pub fn fetch(folder: &Path) -> Result<Parts> {
    if let Ok(parts) = find(folder) {
        return Ok(parts);
    }
    setup::ensure(&[setup::APT_GET, setup::DPKG_DEB, setup::TAR])?;
    let kernel = kernel_package()?;
    for package in [kernel.as_str(), BUSYBOX] {
        eprintln!("fetching {package} into {}", folder.display());
        let file = download(folder, package)?;
        unpack(&file, folder)?;
        // Seventy megabytes that nobody needs any more.
        fs::remove_file(&file).ok();
    }
    find(folder)
}

/// The name of the current kernel's package; the package lists are brought up to date where they are missing.
fn kernel_package() -> Result<String> {
    let ask = || {
        let output = Command::new("apt-cache")
            .args(["depends", "--important", KERNEL])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .context("cannot start apt-cache")?;
        Ok::<_, Error>(dependency(&String::from_utf8_lossy(&output.stdout)))
    };
    if let Some(package) = ask()? {
        return Ok(package);
    }
    eprintln!("the package lists don't have {KERNEL}; apt-get update");
    Command::new("apt-get").args(["update", "-qq"]).stdin(Stdio::null()).status().ok();
    ask()?.ok_or_else(|| {
        Error::Failed(format!(
            "--peer linux needs Debian's {KERNEL}, which the package lists here don't have"
        ))
    })
}

fn dependency(answer: &str) -> Option<String> {
    let name = answer.lines().find_map(|line| line.trim().strip_prefix("Depends: "))?;
    name.starts_with("linux-image-").then(|| name.to_owned())
}

fn download(folder: &Path, package: &str) -> Result<PathBuf> {
    let output = Command::new("apt-get")
        // As root, apt would step down to a user who may have no right to the folder.
        .args(["download", "-q", "-o", "APT::Sandbox::User=root", package])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("cannot start apt-get")?;
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
    };
    let file = fs::read_dir(folder).context(folder.display())?.flatten().map(|e| e.path()).find(is_it);
    match file {
        Some(file) if output.status.success() => Ok(file),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            let why = said.lines().rfind(|line| line.starts_with("E:")).unwrap_or("no reason given");
            failed(format!("cannot fetch {package}: {why}"))
        }
    }
}

/// Takes the wanted members out of a package; what a package does not have is noticed later, by [`find`].
fn unpack(package: &Path, folder: &Path) -> Result<()> {
    let mut deb = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let stream = deb.stdout.take().ok_or_else(|| Error::Failed("dpkg-deb has no output".into()))?;
    Command::new("tar")
        .args(["-x", "--wildcards", "--no-same-owner", "-C"])
        .arg(folder)
        .args(MEMBERS)
        .stdin(stream)
        .stderr(Stdio::null())
        .status()
        .context("cannot start tar")?;
    deb.wait().context("dpkg-deb")?;
    Ok(())
}

/// Looks for the parts below the folder.
fn find(folder: &Path) -> Result<Parts> {
    let mut parts = Parts::default();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).context(folder.display())?.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(version) = name.strip_prefix("vmlinuz-") {
                (parts.version, parts.kernel) = (version.to_owned(), path);
            } else if name == "busybox" {
                parts.busybox = path;
            } else if let Some(module) = name.strip_suffix(".ko") {
                parts.modules.push((module.replace('-', "_"), path));
            } else if name.ends_with(".ko.xz") {
                unxz(&path)?;
                let module = name.trim_end_matches(".ko.xz").replace('-', "_");
                parts.modules.push((module, path.with_extension("")));
            }
        }
    }
    let has = |module: &str| parts.modules.iter().any(|(name, _)| name == module);
    match () {
        () if parts.version.is_empty() => failed(format!("no kernel in {}", folder.display())),
        () if parts.busybox.as_os_str().is_empty() => failed(format!("no busybox in {}", folder.display())),
        () if !has("e1000") || !has("virtio_net") => {
            failed(format!("no drivers for the network cards in {}", folder.display()))
        }
        () => Ok(parts),
    }
}

/// Debian 13 and later compress modules.
fn unxz(file: &Path) -> Result<()> {
    let done = Command::new("xz").arg("-df").arg(file).stdin(Stdio::null()).status();
    match done {
        Ok(status) if status.success() => Ok(()),
        _ => failed(format!("cannot expand {} (is xz there? Debian's package: xz-utils)", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_kernel_is_a_dependency() {
        let answer = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n";
        assert_eq!(dependency(answer).as_deref(), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(dependency("linux-image-amd64\n"), None);
        assert_eq!(dependency("x\n  Depends: <linux-image>\n"), None);
    }

    #[test]
    fn parts_are_found_and_missed() {
        let folder = temp_dir::TempDir::new().unwrap();
        let put = |name: &str| {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "x").unwrap();
        };
        put("boot/vmlinuz-6.1.0-9-amd64");
        put("bin/busybox");
        put("lib/modules/6.1/kernel/drivers/net/virtio_net.ko");
        assert!(find(folder.path()).unwrap_err().message().contains("no drivers"));
        put("lib/modules/6.1/kernel/drivers/net/ethernet/intel/e1000/e1000.ko");
        let parts = find(folder.path()).unwrap();
        assert_eq!((parts.version.as_str(), parts.modules.len()), ("6.1.0-9-amd64", 2));
    }
}
