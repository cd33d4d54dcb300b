//! Holds messages back until the facts that justify them are durable. The order of what leaves is the order in
//! which it was made.

use crate::fact::{Mark, Output};
use std::collections::VecDeque;

/// Facts pass at once, to be recorded; messages wait for their mark.
#[derive(Default, Debug)]
pub struct Gate {
    durable: Mark,
    waiting: VecDeque<(Mark, Output)>,
}

impl Gate {
    /// Takes an output; gives back what is to be recorded now.
    pub fn push(&mut self, output: Output) -> Option<Output> {
        let after = match &output {
            Output::Fact { .. } => return Some(output),
            Output::Answer { after, .. } | Output::Request { after, .. } => *after,
        };
        self.waiting.push_back((after, output));
        None
    }

    /// All facts up to this mark are durable.
    pub fn durable(&mut self, mark: Mark) {
        self.durable = self.durable.max(mark);
    }

    /// The next message that may leave.
    pub fn pop(&mut self) -> Option<Output> {
        let is_free = self.waiting.front().is_some_and(|(after, _)| *after <= self.durable);
        if is_free { self.waiting.pop_front().map(|(_, output)| output) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Token;

    #[test]
    fn nothing_leaves_before_its_fact() {
        let answer =
            |after, token| Output::Answer { after: Mark(after), token: Token(token), bytes: Vec::new() };
        let mut gate = Gate::default();
        assert_eq!(gate.push(answer(0, 1)), None);
        assert_eq!(gate.push(answer(2, 2)), None);
        assert_eq!(gate.push(answer(1, 3)), None);
        assert_eq!(gate.pop(), Some(answer(0, 1)));
        gate.durable(Mark(1));
        assert_eq!(gate.pop(), None, "in the order in which they were made");
        gate.durable(Mark(2));
        gate.durable(Mark(1));
        assert_eq!((gate.pop(), gate.pop()), (Some(answer(2, 2)), Some(answer(1, 3))));
    }
}
