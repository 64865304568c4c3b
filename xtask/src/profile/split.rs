//! The instructions of a marked region, divided: by category, by function, by line.

use std::collections::HashMap;

use insn_counter::blocks::Block;
use serde_json::{Map, Value, json};

use super::category::Category;
use super::places::{Place, Places};
use crate::error::{Result, failed};
use crate::vm::Instructions;

/// Instructions by category.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Split([u64; Category::ALL.len()]);

impl Split {
    /// Of one category.
    pub fn of(&self, category: Category) -> u64 {
        self.0[category as usize]
    }

    /// Of all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// As a row of the report has it: instructions per unit, by the category's name.
    pub fn to_json(self, units: f64) -> Value {
        let pairs = Category::ALL.map(|c| (c.name().to_owned(), json!(self.of(c) as f64 / units)));
        Value::Object(Map::from_iter(pairs))
    }
}

/// What one function or line has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The image: the kernel or a program.
    pub image: String,
    /// Where; the line is 0 for a function.
    pub place: Place,
    /// Instructions.
    pub instructions: u64,
}

/// A region, divided.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// By category.
    pub split: Split,
    /// By function, those with the most first.
    pub functions: Vec<Share>,
    /// By line, those with the most first.
    pub lines: Vec<Share>,
    /// Instructions of blocks that no image has; they are in [`Category::Other`].
    pub unknown: u64,
}

impl Profile {
    /// Divides a region, whose instructions were counted by themselves too.
    ///
    /// # Errors
    /// The two counts differ: then neither can be believed.
    pub fn of(places: &Places, executed: &[Block], counted: Instructions) -> Result<Self> {
        let mut profile = Self::default();
        let (mut functions, mut lines) = (HashMap::new(), HashMap::new());
        for ((image, address), ran) in by_address(places, executed, &mut profile.unknown) {
            let place = places.find(image, address);
            profile.split.0[place.category as usize] += ran;
            *lines.entry((image, place.file.clone(), place.line, place.function.clone())).or_insert(0) += ran;
            *functions.entry((image, place.file.clone(), 0, place.function.clone())).or_insert(0) += ran;
        }
        profile.split.0[Category::Other as usize] += profile.unknown;
        profile.functions = shares(places, functions);
        profile.lines = shares(places, lines);
        let (sum, total) = (profile.split.total(), counted.kernel + counted.user);
        if sum != total {
            return failed(format!("the blocks have {sum} instructions, and {total} were counted"));
        }
        Ok(profile)
    }
}

/// How often each instruction ran. One that several blocks begin or end with is counted for each.
fn by_address(places: &Places, executed: &[Block], unknown: &mut u64) -> HashMap<(usize, u64), u64> {
    let mut ran = HashMap::new();
    for block in executed {
        match places.image_of(block) {
            Some(image) => {
                block.addresses().for_each(|address| *ran.entry((image, address)).or_insert(0) += block.ran);
            }
            None => *unknown += block.instructions(),
        }
    }
    ran
}

type Key = (usize, String, u32, String);

fn shares(places: &Places, counts: HashMap<Key, u64>) -> Vec<Share> {
    let share = |((image, file, line, function), instructions): (Key, u64)| {
        let category = Category::of(&file).unwrap_or(Category::Other);
        let place = Place { file, line, function, category };
        Share { image: places.name_of(image).to_owned(), place, instructions }
    };
    let mut shares: Vec<_> = counts.into_iter().map(share).collect();
    // By name where the counts are equal, so that the order is the same each time.
    let key = |share: &Share| {
        (share.image.clone(), share.place.file.clone(), share.place.line, share.place.function.clone())
    };
    shares.sort_by(|a, b| b.instructions.cmp(&a.instructions).then_with(|| key(a).cmp(&key(b))));
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Images;
    use crate::elf;
    use insn_counter::blocks::{DIGEST_START, digest};

    #[test]
    fn every_instruction_is_somewhere_and_the_sum_is_checked() {
        let own = std::env::current_exe().unwrap();
        let contents = std::fs::read(&own).unwrap();
        let images = Images { kernel: own.clone(), programs: Default::default(), plugin: own };
        let places = Places::of(&images).unwrap();
        let (address, _) =
            *elf::labels(&contents).iter().find(|(_, name)| name.contains("symbol_lines")).unwrap();
        let bytes = elf::loaded(&contents, address, 8).unwrap();
        let known = Block { address, digest: digest(DIGEST_START, bytes), lengths: vec![4, 4], ran: 10 };
        let stranger = Block { address: 1, digest: 0, lengths: vec![1, 1, 1], ran: 5 };
        let counted = |user| Instructions { kernel: 15, user };
        let profile = Profile::of(&places, &[known.clone(), stranger.clone()], counted(20)).unwrap();
        assert_eq!((profile.split.total(), profile.unknown), (35, 15));
        assert_eq!(profile.split.of(Category::Other), 35);
        assert_eq!(profile.functions[0].instructions, 20);
        assert_eq!(profile.lines.iter().map(|share| share.instructions).sum::<u64>(), 20);
        assert!(Profile::of(&places, &[known, stranger], counted(21)).is_err());
    }

    #[test]
    fn the_json_has_all_categories_per_unit() {
        let mut split = Split::default();
        split.0[Category::Stack as usize] = 3000;
        let object = split.to_json(2.0);
        assert_eq!(object["stack"], 1500.0);
        assert_eq!(object["driver"], 0.0);
        assert_eq!(object.as_object().unwrap().len(), Category::ALL.len());
    }
}
