//! Builds what the machine runs: the kernel, the programs of the boot module, the counting plugin.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cpio;
use crate::elf;
use crate::error::{Context as _, Error, Result, failed};

/// The packages whose binaries run in the guest.
const GUEST_PACKAGES: &[&str] = &["microkernel", "protocol-server", "apps"];
const KERNEL: &str = "microkernel";
/// What a Linux guest runs.
const LINUX_PROGRAM: &str = "linux-guest";
/// The member of the boot module that names the kernel's functions.
const KERNEL_SYMBOLS: &str = "kernel.sym";
/// Set by the outer process for the one inside the namespace, which must not build: it may have no network.
pub const BUILT: &str = "ORIEL_BUILT";

/// The images of a machine.
#[derive(Debug, Clone)]
pub struct Images {
    /// The kernel's ELF file.
    pub kernel: PathBuf,
    /// The programs of the boot module by name.
    pub programs: BTreeMap<String, PathBuf>,
    /// The plugin that counts instructions.
    pub plugin: PathBuf,
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ is in the repository")
}

/// A cargo command in the repository.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds everything, or finds what was built already if this process is inside the namespace.
pub fn images() -> Result<Images> {
    if let Ok(list) = env::var(BUILT) {
        return parse(&list);
    }
    let mut packages = Vec::new();
    for package in GUEST_PACKAGES {
        packages.extend(["-p", package]);
    }
    let mut programs = executables(cargo().args(["build", "--profile", "guest"]).args(&packages))?;
    let kernel = programs
        .remove(KERNEL)
        .ok_or_else(|| Error::Failed("the build gave no program `microkernel`".into()))?;
    let mut plugin =
        libraries(cargo().args(["build", "--release", "-p", "insn-counter", "--features", "plugin"]))?;
    let plugin = plugin.pop().ok_or_else(|| Error::Failed("the build gave no plugin".into()))?;
    Ok(Images { kernel, programs, plugin })
}

/// Builds the Linux guest's program, static, since its machine has no C library.
pub fn linux_program() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["rustc", "--profile", "guest", "-p", LINUX_PROGRAM, "--bin", LINUX_PROGRAM]);
    // Behind the separator: for this program alone, and not for what it is built from.
    let arguments = ["--message-format", "json-render-diagnostics", "--", "-C", "target-feature=+crt-static"];
    let mut found = programs_of(&artifacts_of(build.args(arguments))?);
    found
        .remove(LINUX_PROGRAM)
        .ok_or_else(|| Error::Failed(format!("the build gave no program `{LINUX_PROGRAM}`")))
}

impl Images {
    /// As text for the process inside the namespace.
    pub fn to_list(&self) -> String {
        let mut list = format!("kernel={}\nplugin={}\n", self.kernel.display(), self.plugin.display());
        for (name, path) in &self.programs {
            list += &format!("program {name}={}\n", path.display());
        }
        list
    }

    /// Replaces the kernel by a file of the user's.
    pub fn set_kernel(&mut self, file: &Path) -> Result<()> {
        check_elf(file)?;
        self.kernel = file.to_owned();
        Ok(())
    }

    /// Adds or replaces a program: `NAME=FILE`.
    pub fn set_module(&mut self, name_and_file: &str) -> Result<()> {
        let Some((name, file)) = name_and_file.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Error::Usage(format!("--module wants NAME=FILE, not `{name_and_file}`")));
        };
        check_elf(Path::new(file))?;
        self.programs.insert(name.into(), file.into());
        Ok(())
    }

    /// Writes the boot module with all programs.
    pub fn write_module(&self, to: &Path) -> Result<()> {
        let files: Vec<(&String, Vec<u8>)> = self
            .programs
            .iter()
            .map(|(name, path)| Ok((name, fs::read(path).context(path.display())?)))
            .collect::<Result<_>>()?;
        // A kernel without symbols boots too; its panic reports have addresses only.
        let kernel = fs::read(&self.kernel).context(self.kernel.display())?;
        let symbols = (KERNEL_SYMBOLS, elf::symbol_lines(&kernel));
        let programs = files.iter().map(|(name, content)| (name.as_str(), content.as_slice()));
        let archive = cpio::archive(programs.chain([(symbols.0, symbols.1.as_bytes())]));
        fs::write(to, archive).context(to.display())
    }
}

fn check_elf(file: &Path) -> Result<()> {
    let image = fs::read(file).context(file.display())?;
    match elf::complaint(&image) {
        None => Ok(()),
        Some(complaint) => failed(format!("{} {complaint}; give a program built for Oriel", file.display())),
    }
}

fn parse(list: &str) -> Result<Images> {
    let mut images = Images { kernel: PathBuf::new(), programs: BTreeMap::new(), plugin: PathBuf::new() };
    for line in list.lines() {
        match line.split_once('=') {
            Some(("kernel", path)) => images.kernel = path.into(),
            Some(("plugin", path)) => images.plugin = path.into(),
            Some((key, path)) if key.starts_with("program ") => {
                images.programs.insert(key["program ".len()..].into(), path.into());
            }
            _ => return failed(format!("the list of images has a line `{line}`")),
        }
    }
    Ok(images)
}

/// Runs a cargo build and gives its messages, one JSON object each.
fn artifacts(build: &mut Command) -> Result<Vec<serde_json::Value>> {
    artifacts_of(build.args(["--message-format", "json-render-diagnostics"]))
}

/// As [`artifacts`], of a command that asks for the messages already.
fn artifacts_of(build: &mut Command) -> Result<Vec<serde_json::Value>> {
    let output =
        build.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        return failed("the build failed; see cargo's messages above");
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    Ok(lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Builds and gives the programs by name.
pub fn executables(build: &mut Command) -> Result<BTreeMap<String, PathBuf>> {
    Ok(programs_of(&artifacts(build)?))
}

fn programs_of(artifacts: &[serde_json::Value]) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for artifact in artifacts {
        if let Some(path) = artifact["executable"].as_str().map(PathBuf::from)
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            found.insert(name.to_owned(), path.clone());
        }
    }
    found
}

fn libraries(build: &mut Command) -> Result<Vec<PathBuf>> {
    let artifacts = artifacts(build)?;
    let files = artifacts.iter().flat_map(|artifact| artifact["filenames"].as_array().into_iter().flatten());
    Ok(files.filter_map(|file| file.as_str()).filter(|f| f.ends_with(".so")).map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_survives_the_namespace() {
        let images = parse("kernel=/a/k\nplugin=/a/p.so\nprogram sh=/b/sh\nprogram init=/b/i\n").unwrap();
        let again = parse(&images.to_list()).unwrap();
        assert_eq!(again.kernel, Path::new("/a/k"));
        assert_eq!(again.programs, images.programs);
        assert_eq!(again.programs["sh"], Path::new("/b/sh"));
    }

    #[test]
    fn a_module_must_be_an_elf_file() {
        let mut images = parse("kernel=/a/k\n").unwrap();
        assert!(matches!(images.set_module("no-file"), Err(Error::Usage(_))));
        assert!(matches!(images.set_module("x=/nowhere"), Err(Error::Failed(_))));
        let own = format!("x={}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        assert!(images.set_module(&own).unwrap_err().message().contains("is no ELF file"));
    }
}
