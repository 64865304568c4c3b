//! Packet filters: programs of [`abi::filter`]'s language, checked once and run for each frame, and the table of those that are set.
//!
//! [`Program::validate`] walks over a program as it will run, since there are no jumps, and so knows the stack's depth at each word: what it
//! lets through cannot underflow, overflow or end without a result, whatever the frame. It translates the words into [`Step`]s at the same
//! time: a comparison of a word of the frame with a constant, which is most of what filters do, is one step and does not touch the stack
//! on its way in. [`FilterTable`] holds the programs of one device by priority.
//!
//! Source: Mogul, Rashid and Accetta (1987), "Filter language details".

mod table;
#[cfg(test)]
mod tests;

pub use table::{FilterTable, Full, Match};

use abi::filter::{ACTION_MASK, OPERATOR_SHIFT, Operator, STACK_MAX, WORDS_MAX, action};

/// Why a program is refused: what is wrong, and at which word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterError {
    /// No words.
    Empty,
    /// More than [`WORDS_MAX`].
    TooLong,
    /// An action that there is not.
    UnknownAction(usize),
    /// An operator that there is not.
    UnknownOperator(usize),
    /// The literal would stand behind the end.
    MissingLiteral(usize),
    /// More is taken from the stack than is there.
    Underflow(usize),
    /// More than [`STACK_MAX`] words on the stack.
    Overflow(usize),
    /// The stack is empty at the end.
    NoResult,
}

/// Where T1 of a step comes from, and T2 where the step brings it along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Both are on the stack.
    Stack,
    /// T1 is the constant.
    Constant,
    /// T1 is word `place` of the frame.
    Word,
    /// T1 is the word of the frame whose number is on top of the stack.
    Indirect,
    /// T2 is word `place` of the frame, and T1 the constant.
    WordAndConstant,
}

/// What one or two words of a program do.
#[derive(Clone, Copy, Debug)]
struct Step {
    source: Source,
    operator: Operator,
    /// The byte of the frame at which the word begins.
    place: u16,
    constant: u16,
}

impl Step {
    const NOTHING: Self = Self { source: Source::Stack, operator: Operator::Nop, place: 0, constant: 0 };
}

/// A program that can do no harm.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    steps: [Step; WORDS_MAX],
    length: usize,
}

/// The stack: the top is in a variable of its own, the rest in memory. No depth reaches beyond it, but the compiler does not know that,
/// so that an index is taken modulo the size, which costs less than a comparison.
struct Stack {
    top: u16,
    /// How many lie under the top; in an empty stack the top is one that means nothing.
    under: usize,
    words: [u16; STACK_MAX],
}

const _: () = assert!(STACK_MAX.is_power_of_two());

impl Stack {
    #[inline(always)]
    fn push(&mut self, value: u16) {
        self.words[self.under % STACK_MAX] = self.top;
        self.under = self.under.wrapping_add(1);
        self.top = value;
    }

    #[inline(always)]
    fn pop(&mut self) -> u16 {
        self.under = self.under.wrapping_sub(1);
        core::mem::replace(&mut self.top, self.words[self.under % STACK_MAX])
    }
}

impl Program {
    /// Checks a program, and translates it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(words: &[u16]) -> Result<Self, FilterError> {
        if words.is_empty() {
            return Err(FilterError::Empty);
        }
        if words.len() > WORDS_MAX {
            return Err(FilterError::TooLong);
        }
        let mut program = Self { steps: [Step::NOTHING; WORDS_MAX], length: 0 };
        let (mut at, mut depth) = (0, 0);
        while at < words.len() {
            let word = words[at];
            let operator = Operator::from_raw(u32::from(word >> OPERATOR_SHIFT));
            let mut step =
                Step { operator: operator.ok_or(FilterError::UnknownOperator(at))?, ..Step::NOTHING };
            let mut next = at + 1;
            (step.source, step.constant) = match word & ACTION_MASK {
                action::NO_PUSH => (Source::Stack, 0),
                action::PUSH_LITERAL => {
                    let literal = *words.get(next).ok_or(FilterError::MissingLiteral(at))?;
                    next += 1;
                    (Source::Constant, literal)
                }
                action::PUSH_ZERO => (Source::Constant, 0),
                action::PUSH_ONE => (Source::Constant, 1),
                action::PUSH_FFFF => (Source::Constant, 0xffff),
                action::PUSH_00FF => (Source::Constant, 0x00ff),
                action::PUSH_FF00 => (Source::Constant, 0xff00),
                action::PUSH_INDIRECT => (Source::Indirect, 0),
                n @ action::PUSH_WORD.. => {
                    step.place = (n - action::PUSH_WORD) * 2;
                    (Source::Word, 0)
                }
                _ => return Err(FilterError::UnknownAction(at)),
            };
            depth = depth_after(&step, depth, at)?;
            program.append(step);
            at = next;
        }
        if depth == 0 { Err(FilterError::NoResult) } else { Ok(program) }
    }

    /// Adds a step, as part of the one before where that has only pushed a word of the frame.
    fn append(&mut self, step: Step) {
        if step.source == Source::Stack && step.operator == Operator::Nop {
            return;
        }
        if let Some(before) = self.steps[..self.length].last_mut()
            && (before.source, before.operator) == (Source::Word, Operator::Nop)
            && step.source == Source::Constant
            && step.operator != Operator::Nop
        {
            *before = Step { source: Source::WordAndConstant, place: before.place, ..step };
            return;
        }
        self.steps[self.length] = step;
        self.length += 1;
    }

    /// Whether the frame is wanted.
    #[inline]
    #[must_use]
    pub fn matches(&self, frame: &[u8]) -> bool {
        self.run(frame).unwrap_or(false)
    }

    /// `None`: a word lies beyond the frame's end.
    #[inline]
    fn run(&self, frame: &[u8]) -> Option<bool> {
        let mut stack = Stack { top: 0, under: 0, words: [0; STACK_MAX] };
        for step in self.steps.get(..self.length)? {
            let t1 = match step.source {
                Source::Constant => step.constant,
                Source::Stack => stack.pop(),
                Source::Word => load(frame, step.place.into())?,
                Source::Indirect => load(frame, usize::from(stack.pop()) * 2)?,
                Source::WordAndConstant => {
                    stack.push(load(frame, step.place.into())?);
                    step.constant
                }
            };
            let t2 = stack.top;
            stack.top = match step.operator {
                Operator::Nop => {
                    stack.push(t1);
                    continue;
                }
                Operator::Cand if t2 == t1 => 1,
                Operator::Cand => return Some(false),
                Operator::Cor if t2 == t1 => return Some(true),
                Operator::Cor => 0,
                Operator::Cnor if t2 == t1 => return Some(false),
                Operator::Cnor => 0,
                Operator::Cnand if t2 == t1 => 1,
                Operator::Cnand => return Some(true),
                Operator::Eq => (t2 == t1).into(),
                Operator::Neq => (t2 != t1).into(),
                Operator::Lt => (t2 < t1).into(),
                Operator::Le => (t2 <= t1).into(),
                Operator::Gt => (t2 > t1).into(),
                Operator::Ge => (t2 >= t1).into(),
                Operator::And => t2 & t1,
                Operator::Or => t2 | t1,
                Operator::Xor => t2 ^ t1,
                Operator::Lsh => t2.checked_shl(t1.into()).unwrap_or(0),
                Operator::Rsh => t2.checked_shr(t1.into()).unwrap_or(0),
                Operator::Add => t2.wrapping_add(t1),
                Operator::Sub => t2.wrapping_sub(t1),
            };
        }
        Some(stack.top != 0)
    }
}

/// The stack's depth behind a step that begins with this depth.
fn depth_after(step: &Step, depth: usize, at: usize) -> Result<usize, FilterError> {
    let pushed = match step.source {
        Source::Stack => depth,
        // Takes the number and pushes the word.
        Source::Indirect if depth == 0 => return Err(FilterError::Underflow(at)),
        Source::Indirect => depth,
        _ => depth + 1,
    };
    if pushed > STACK_MAX {
        return Err(FilterError::Overflow(at));
    }
    match step.operator {
        Operator::Nop => Ok(pushed),
        _ if pushed < 2 => Err(FilterError::Underflow(at)),
        _ => Ok(pushed - 1),
    }
}

#[inline(always)]
fn load(frame: &[u8], place: usize) -> Option<u16> {
    let bytes = frame.get(place..place + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}
