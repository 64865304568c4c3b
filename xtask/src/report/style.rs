//! Colours, the same everywhere: Okabe and Ito's for the paths, Tol's muted ones for the categories. Both sets can be told apart with
//! the common kinds of colour blindness; names stand beside them all the same.

use crate::profile::category::Category;

/// The page's style sheet, with both schemes.
pub const SHEET: &str = include_str!("style.css");

/// The class of a path's bars, and its colour where there is no style sheet.
const PATHS: [(&str, &str, &str); 6] = [
    ("monolithic", "p-monolithic", "#0072b2"),
    ("ipc", "p-ipc", "#d55e00"),
    ("window", "p-window", "#009e73"),
    ("window (ring)", "p-ring", "#56b4e9"),
    ("linux", "p-linux", "#a05a8a"),
    ("linux+offload", "p-offload", "#d39bbf"),
];

/// The class of a path's bars.
pub fn path_class(path: &str) -> &'static str {
    PATHS.iter().find(|(name, ..)| *name == path).map_or("p-other", |(_, class, _)| class)
}

/// A path's colour, for drawings that stand alone.
pub fn path_colour(path: &str) -> &'static str {
    PATHS.iter().find(|(name, ..)| *name == path).map_or("#8a8a8a", |(.., colour)| colour)
}

/// The class of a category's parts.
pub fn category_class(category: Category) -> &'static str {
    match category {
        Category::Driver => "c-driver",
        Category::Queue => "c-queue",
        Category::Entry => "c-entry",
        Category::Scheduling => "c-scheduling",
        Category::Messages => "c-messages",
        Category::Copying => "c-copying",
        Category::Memory => "c-memory",
        Category::Stack => "c-stack",
        Category::Socket => "c-socket",
        Category::Application => "c-application",
        Category::Other => "c-other",
    }
}

/// Whether letters on it must be light.
pub fn is_dark(category: Category) -> bool {
    use Category::{Application, Copying, Socket, Stack};
    matches!(category, Copying | Stack | Socket | Application)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_in_the_sheet() {
        let paths = PATHS.iter().map(|(_, class, _)| *class).chain(["p-other"]);
        for class in paths.chain(Category::ALL.map(category_class)) {
            assert!(SHEET.contains(&format!(".{class} ")), "{class}");
        }
        for path in abi::path::Path::ALL {
            assert_ne!(path_class(path.name()), "p-other");
        }
        assert_eq!((path_class("new"), path_colour("new")), ("p-other", "#8a8a8a"));
    }
}
