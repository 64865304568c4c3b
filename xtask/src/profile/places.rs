//! From an address in the guest to a line of the sources.
//!
//! Whose an address is, the bytes there say: programs may be linked at the same address, so each block of the plugin's file has a
//! digest that is compared with every program's. Where it comes from, the debug information says: the innermost inlined
//! function, but for the standard library, whose one-liners are charged to who called them. Assembly has no debug information;
//! its labels stand for it.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::rc::Rc;

use gimli::{self, EndianRcSlice, LittleEndian};
use insn_counter::blocks::{self, Block};

use super::category::{Category, is_transparent};
use crate::build::{self, Images};
use crate::elf;
use crate::error::{Context as _, Result};

type Slice = EndianRcSlice<LittleEndian>;

/// Where an instruction comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path, relative to the repository; of another crate, it begins with the crate's name.
    pub file: String,
    /// The line, 0 if only the file is known.
    pub line: u32,
    /// The function, without the hash of its instance.
    pub function: String,
    /// What the file is about.
    pub category: Category,
}

/// An image and its debug information.
pub(super) struct Image {
    name: String,
    contents: Vec<u8>,
    debug: addr2line::Context<Slice>,
    /// Functions and labels by address.
    labels: Vec<(u64, String)>,
}

/// Everything that runs in the guest.
pub struct Places {
    images: Vec<Image>,
    known: RefCell<HashMap<(usize, u64), Rc<Place>>>,
    without_category: RefCell<BTreeSet<String>>,
}

/// Files of assembly by their labels.
const ASSEMBLY: &[(&str, &str)] = &[
    ("syscall_entry", "microkernel/src/arch/x86_64/trap.s"),
    ("enter_next", "microkernel/src/arch/x86_64/trap.s"),
    ("enter_context", "microkernel/src/arch/x86_64/trap.s"),
    ("vector_stubs", "microkernel/src/arch/x86_64/trap.s"),
    ("trap", "microkernel/src/arch/x86_64/trap.s"),
    ("fatal", "microkernel/src/arch/x86_64/trap.s"),
    ("_start", "userlib/src/entry.rs"),
    ("memcpy", "memfuncs/src/x86_64.rs"),
    ("memmove", "memfuncs/src/x86_64.rs"),
    ("memset", "memfuncs/src/x86_64.rs"),
    ("memcmp", "memfuncs/src/x86_64.rs"),
    ("bcmp", "memfuncs/src/x86_64.rs"),
];

impl Places {
    /// Reads the images.
    pub fn of(images: &Images) -> Result<Self> {
        let kernel = [("kernel", images.kernel.as_path())];
        let programs = images.programs.iter().map(|(name, path)| (name.as_str(), path.as_path()));
        let images = kernel.into_iter().chain(programs).map(|(name, path)| Image::read(name, path));
        Ok(Self {
            images: images.collect::<Result<_>>()?,
            known: RefCell::default(),
            without_category: RefCell::default(),
        })
    }

    /// The number of the image that a block belongs to.
    pub fn image_of(&self, block: &Block) -> Option<usize> {
        self.images.iter().position(|image| image.has(block))
    }

    /// The name of an image.
    pub fn name_of(&self, image: usize) -> &str {
        &self.images[image].name
    }

    /// Where the instruction at this address of an image comes from.
    pub fn find(&self, image: usize, address: u64) -> Rc<Place> {
        if let Some(place) = self.known.borrow().get(&(image, address)) {
            return Rc::clone(place);
        }
        let place = Rc::new(self.look_up(&self.images[image], address));
        self.known.borrow_mut().insert((image, address), Rc::clone(&place));
        place
    }

    /// The paths that were met and have no category.
    pub fn without_category(&self) -> Vec<String> {
        self.without_category.borrow().iter().cloned().collect()
    }

    fn look_up(&self, image: &Image, address: u64) -> Place {
        let (file, line, function) = image.frame_at(address).unwrap_or_else(|| image.label_at(address));
        // A line of the library's alone, where the compiler has lost who called it: it's the surrounding function's.
        let around = if is_transparent(&file) { image.frame_at(image.label_before(address)) } else { None };
        let (file, line, function) = match around {
            Some((file, _, function)) if !is_transparent(&file) => (file, 0, function),
            _ => (file, line, function),
        };
        let category = Category::of(&file).unwrap_or_else(|| {
            self.without_category.borrow_mut().insert(file.clone());
            Category::Other
        });
        Place { file, line, function, category }
    }
}

impl Image {
    pub(super) fn read(name: &str, path: &Path) -> Result<Self> {
        let contents = fs::read(path).context(path.display())?;
        let load = |id: gimli::SectionId| -> Result<Slice, gimli::Error> {
            Ok(Slice::new(elf::section(&contents, id.name()).into(), LittleEndian))
        };
        let debug = gimli::Dwarf::load(load).and_then(addr2line::Context::from_dwarf);
        let debug = debug.context(format!("the debug information of {}", path.display()))?;
        let labels = elf::labels(&contents).iter().map(|(address, name)| (*address, name_of(name))).collect();
        Ok(Self { name: name.to_owned(), contents, debug, labels })
    }

    /// Whether the block's bytes are this image's.
    fn has(&self, block: &Block) -> bool {
        elf::loaded(&self.contents, block.address, block.bytes())
            .is_some_and(|bytes| blocks::digest(blocks::DIGEST_START, bytes) == block.digest)
    }

    /// The addresses at which the line table says where code comes from.
    pub(super) fn rows(&self) -> Vec<u64> {
        let rows = self.debug.find_location_range(0, u64::MAX);
        rows.map_or_else(|_| Vec::new(), |rows| rows.map(|(address, _, _)| address).collect())
    }

    /// File, line and function of the code at an address: the innermost inlined function's first, then those around it.
    pub(super) fn frames_at(&self, address: u64) -> Vec<(String, u32, String)> {
        let mut found = Vec::new();
        let Ok(mut frames) = self.debug.find_frames(address).skip_all_loads() else { return found };
        while let Ok(Some(frame)) = frames.next() {
            let Some(location) = frame.location else { continue };
            let file = relative(location.file.unwrap_or("?"));
            let function = frame.function.and_then(|name| Some(name_of(&name.raw_name().ok()?)));
            found.push((file, location.line.unwrap_or(0), function.unwrap_or_else(|| "?".into())));
        }
        found
    }

    /// The innermost code's that isn't transparent, or the innermost's.
    fn frame_at(&self, address: u64) -> Option<(String, u32, String)> {
        let mut frames = self.frames_at(address);
        let at = frames.iter().position(|(file, _, _)| !is_transparent(file)).unwrap_or(0);
        (at < frames.len()).then(|| frames.swap_remove(at))
    }

    /// The address of the last label up to this one.
    fn label_before(&self, address: u64) -> u64 {
        let after = self.labels.partition_point(|(start, _)| *start <= address);
        after.checked_sub(1).map_or(address, |at| self.labels[at].0)
    }

    /// The last label up to this address; of several there, a known one rather than the linker script's.
    fn label_at(&self, address: u64) -> (String, u32, String) {
        let before = &self.labels[..self.labels.partition_point(|(start, _)| *start <= address)];
        let Some((last, label)) = before.last() else { return ("?".into(), 0, "?".into()) };
        let same = before.iter().rev().take_while(|(start, _)| start == last);
        let file_of = |label: &str| ASSEMBLY.iter().find(|(known, _)| *known == label).map(|(_, file)| *file);
        let known = same.filter_map(|(_, label)| Some((file_of(label)?, label))).next();
        let (file, label) = known.unwrap_or(("?", label));
        (file.into(), 0, label.clone())
    }
}

/// The path as the table of categories has it.
fn relative(path: &str) -> String {
    let root = build::root().to_string_lossy();
    if let Some(inside) = path.strip_prefix(root.as_ref()) {
        return inside.trim_start_matches('/').into();
    }
    // ~/.cargo/registry/src/INDEX/CRATE-VERSION/src/...
    if let Some((_, inside)) = path.split_once("/registry/src/")
        && let Some((_, inside)) = inside.split_once('/')
        && let Some((package, rest)) = inside.split_once('/')
    {
        let name = package.rsplit_once('-').map_or(package, |(name, _)| name);
        return if name == "compiler_builtins" { format!("std/{rest}") } else { format!("{name}/{rest}") };
    }
    if let Some((_, inside)) = path.split_once("/library/") {
        return format!("std/{inside}");
    }
    path.into()
}

/// A function's name as the sources have it: without the hash of its instance.
fn name_of(mangled: &str) -> String {
    plain(&format!("{:#}", rustc_demangle::demangle(mangled)))
}

/// A function's name without generic arguments, which differ from instance to instance.
fn plain(name: &str) -> String {
    let mut out = String::new();
    let mut depth = 0u32;
    let mut last = ' ';
    for c in name.chars() {
        match c {
            '<' if last == ':' => {
                depth += 1;
                out.truncate(out.trim_end_matches("::").len());
            }
            '<' if depth > 0 => depth += 1,
            '>' if depth > 0 && last != '-' => depth -= 1,
            _ if depth > 0 => {}
            _ => out.push(c),
        }
        last = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn paths_are_made_relative() {
        let own = build::root().join("mbuf/src/pool.rs");
        assert_eq!(relative(&own.to_string_lossy()), "mbuf/src/pool.rs");
        let registry = "/root/.cargo/registry/src/index.crates.io-1949/smoltcp-0.14.0/src/socket/tcp.rs";
        assert_eq!(relative(registry), "smoltcp/src/socket/tcp.rs");
        let library = "/rustc/59807616e/library/core/src/sync/atomic.rs";
        assert_eq!(relative(library), "std/core/src/sync/atomic.rs");
        assert!(is_transparent(&relative(library)));
        assert_eq!(relative("/elsewhere/x.rs"), "/elsewhere/x.rs");
    }

    #[test]
    fn names_lose_their_generic_arguments() {
        assert_eq!(plain("mbuf::pool::take::<&dyn Fn(u32) -> Option<u8>>"), "mbuf::pool::take");
        assert_eq!(plain("<kernel::Kernel<M>>::pick"), "<kernel::Kernel<M>>::pick");
        assert_eq!(plain("a::b"), "a::b");
    }

    /// This test's own program stands for a guest's: it has debug information too.
    #[test]
    fn an_address_is_found_and_bytes_say_whose_it_is() {
        let own = std::env::current_exe().unwrap();
        let images = Images { kernel: own.clone(), programs: BTreeMap::new(), plugin: own };
        let places = Places::of(&images).unwrap();
        let labels = elf::labels(&places.images[0].contents);
        let (address, _) = *labels.iter().find(|(_, name)| name.contains("symbol_lines")).unwrap();
        let place = places.find(0, address);
        assert_eq!((place.file.as_str(), place.category), ("xtask/src/elf.rs", Category::Other));
        assert!(place.line > 0 && place.function.contains("symbol_lines"), "{place:?}");
        assert_eq!(places.without_category(), ["xtask/src/elf.rs"]);
        let bytes = elf::loaded(&places.images[0].contents, address, 8).unwrap();
        let digest = blocks::digest(blocks::DIGEST_START, bytes);
        let block = Block { address, digest, lengths: vec![4, 4], ran: 1 };
        assert_eq!(places.image_of(&block), Some(0));
        assert_eq!(places.image_of(&Block { digest: digest ^ 1, ..block }), None);
    }
}
