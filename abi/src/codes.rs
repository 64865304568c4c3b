//! The one way in which this crate writes an enumeration that crosses a wall.

/// Declares a `repr(u32)` enumeration with its `from_raw`, which refuses a number that is not listed.
macro_rules! codes {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:expr,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        $vis enum $name { $($(#[$vmeta])* $variant = $value,)+ }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// The number that crosses the wall.
            #[must_use]
            pub const fn raw(self) -> u32 {
                self as u32
            }

            /// The meaning of a number from the other side; `None` if it has none.
            #[must_use]
            pub const fn from_raw(raw: u32) -> Option<Self> {
                match raw {
                    $(x if x == $value => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use codes;
