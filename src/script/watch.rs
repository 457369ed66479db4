//! What a script has taken of steps and of native stack. Once over a bound it stays over, whatever the
//! script catches.

use std::cell::Cell;

use wire::script::Failure;

/// Native stack, in bytes, that is kept for what a step of the script may call: parsers, formatters.
const STACK_RESERVE: u64 = 320 * 1024;

/// Counts steps and looks at the stack at each of them.
pub(crate) struct Watch {
    steps: Cell<u64>,
    most_steps: u64,
    most_levels: usize,
    /// The lowest address that the stack may reach at a step.
    floor: usize,
    passed: Cell<Option<Failure>>,
}

impl Watch {
    /// `stack` is an address near the beginning of the stack.
    pub(crate) fn new(most_steps: u64, most_levels: usize, stack: usize) -> Self {
        let usable = usize::try_from(sandbox::STACK_BYTES - STACK_RESERVE).unwrap_or(0);
        let floor = stack.saturating_sub(usable);
        let (steps, passed) = Default::default();
        Self { steps, most_steps, most_levels, floor, passed }
    }

    /// Steps taken so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// The bound that was passed, if one was, and how to say so.
    pub(crate) fn passed(&self) -> Option<(Failure, String)> {
        let failure = self.passed.get()?;
        let text = if failure == Failure::Depth {
            format!(
                "calls nest deeper than {} levels, or than there is stack for",
                self.most_levels
            )
        } else {
            format!("the script took more than {} operations", self.most_steps)
        };
        Some((failure, text))
    }

    /// Looks at how deep calls nest; whether the script may go on.
    pub(crate) fn is_within(&self, level: usize) -> bool {
        if self.passed.get().is_none() && level > self.most_levels {
            self.passed.set(Some(Failure::Depth));
        }
        self.passed.get().is_none()
    }

    /// Takes one step; whether the script may go on.
    pub(crate) fn step(&self) -> bool {
        self.steps.set(self.steps.get().saturating_add(1));
        if self.passed.get().is_none() {
            if self.steps.get() > self.most_steps {
                self.passed.set(Some(Failure::Operations));
            } else if crate::engine::here() < self.floor {
                self.passed.set(Some(Failure::Depth));
            }
        }
        self.passed.get().is_none()
    }
}
