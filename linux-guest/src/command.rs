//! Command lines in the classic style: letters, each with its argument in the next word or none, and operands.

use std::error::Error;
use std::fmt::Display;

/// The words behind the program's name.
pub type Words = Vec<String>;

/// What a program ends with. Its error is one line.
pub type Outcome = Result<(), Box<dyn Error>>;

/// One option or operand.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// A letter, with its argument if it takes one.
    Option(char, String),
    /// Anything else.
    Operand(String),
}

/// Takes a command line apart; the letters in `with_argument` take one.
///
/// # Errors
/// A letter at the end that misses its argument.
pub fn parse(words: Words, with_argument: &str) -> Result<Vec<Word>, Box<dyn Error>> {
    let mut words = words.into_iter();
    let mut parsed = Vec::new();
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            parsed.push(Word::Operand(word));
            continue;
        };
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            if !with_argument.contains(letter) {
                parsed.push(Word::Option(letter, String::new()));
                continue;
            }
            let attached = rest.as_str().to_owned();
            let argument = if attached.is_empty() { words.next() } else { Some(attached) };
            let argument = argument.ok_or_else(|| format!("option -{letter} needs an argument"))?;
            parsed.push(Word::Option(letter, argument));
            break;
        }
    }
    Ok(parsed)
}

/// The error for a word that the program doesn't know.
#[must_use]
pub fn unknown(word: &Word) -> Box<dyn Error> {
    match word {
        Word::Option(letter, _) => format!("unknown option -{letter}").into(),
        Word::Operand(text) => format!("unexpected argument `{text}`").into(),
    }
}

/// A number in a range.
///
/// # Errors
/// It's none, or not in the range.
pub fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, Box<dyn Error>> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("`{text}` is not a number in range").into())
}

/// Says what was being done when it failed.
pub trait During<T> {
    /// The same result, with `what` before the error.
    ///
    /// # Errors
    /// What it was.
    fn during(self, what: &str) -> Result<T, Box<dyn Error>>;
}

impl<T, E: Display> During<T> for Result<T, E> {
    fn during(self, what: &str) -> Result<T, Box<dyn Error>> {
        self.map_err(|error| format!("{what}: {error}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Words {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn letters_group_and_arguments_attach() {
        let option = |letter, text: &str| Word::Option(letter, text.into());
        assert_eq!(
            parse(words("-ts -l8192 -p 5002 10.9.0.1 -M"), "lp").unwrap(),
            [
                option('t', ""),
                option('s', ""),
                option('l', "8192"),
                option('p', "5002"),
                Word::Operand("10.9.0.1".into()),
                option('M', "")
            ]
        );
        assert!(parse(words("-p"), "p").is_err());
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(number("7", 1..=7).unwrap(), 7);
        assert!(number("8", 1..=7).is_err() && number("x", 0..=7).is_err());
    }
}
