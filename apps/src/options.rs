//! Options in the classic style of `getopt`: letters that may be grouped, with an argument attached or in the next word.

use crate::Usage;

/// A word of the command line, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// An option, with its argument if it takes one.
    Option(char, &'a str),
    /// Anything else.
    Operand(&'a str),
}

/// The words of a command line, one option at a time.
#[derive(Debug)]
pub struct Options<'a, I> {
    words: I,
    /// The options that take an argument.
    with_argument: &'a str,
    /// What is left of a group of letters.
    group: &'a str,
    /// After `--` everything is an operand.
    operands: bool,
}

impl<'a, I: Iterator<Item = &'a str>> Options<'a, I> {
    /// Options, of which those in `with_argument` take one.
    pub const fn new(words: I, with_argument: &'a str) -> Self {
        Self { words, with_argument, group: "", operands: false }
    }
}

impl<'a, I: Iterator<Item = &'a str>> Iterator for Options<'a, I> {
    type Item = Result<Word<'a>, Usage<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.group.is_empty() {
            let word = self.words.next()?;
            match word.strip_prefix('-') {
                _ if self.operands => return Some(Ok(Word::Operand(word))),
                Some("-") => {
                    self.operands = true;
                    return self.next();
                }
                Some(group) if !group.is_empty() => self.group = group,
                _ => return Some(Ok(Word::Operand(word))),
            }
        }
        let option = self.group.chars().next()?;
        let rest = &self.group[option.len_utf8()..];
        if !self.with_argument.contains(option) {
            self.group = rest;
            return Some(Ok(Word::Option(option, "")));
        }
        self.group = "";
        let argument = if rest.is_empty() { self.words.next() } else { Some(rest) };
        Some(argument.map(|argument| Word::Option(option, argument)).ok_or(Usage::Missing(option)))
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn parse(line: &'static str) -> Vec<Result<Word<'static>, Usage<'static>>> {
        Options::new(line.split_whitespace(), "lp").collect()
    }

    #[test]
    fn letters_group_and_arguments_attach() {
        use Word::{Operand, Option as Opt};
        assert_eq!(
            parse("-ts -l8192 -p 5002 10.9.0.1 -M"),
            [
                Opt('t', ""),
                Opt('s', ""),
                Opt('l', "8192"),
                Opt('p', "5002"),
                Operand("10.9.0.1"),
                Opt('M', "")
            ]
            .map(Ok)
        );
        assert_eq!(parse("-sl 10"), [Opt('s', ""), Opt('l', "10")].map(Ok));
        assert_eq!(parse("-- -t -"), [Operand("-t"), Operand("-")].map(Ok));
    }

    #[test]
    fn an_option_at_the_end_misses_its_argument() {
        assert_eq!(parse("-p"), [Err(Usage::Missing('p'))]);
    }
}
