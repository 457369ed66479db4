//! An engine built from nothing, and a script's way from text to value.

use std::cell::Cell;
use std::rc::Rc;

use rhai::packages::{Package, StandardPackage};
use rhai::{AST, Dynamic, Engine, EvalAltResult, ParseErrorType, Position, Scope};
use wire::script::{Ending, Failure, Job, Sighting};

use crate::{result, sightings};

/// Deepest nesting of expressions, outside and inside functions: the parser and the engine use
/// native stack for each level.
const EXPRESSION_DEPTHS: (usize, usize) = (64, 32);
/// Most functions and variables of a script: ten times what people write in 64 KiB.
const MAX_FUNCTIONS: usize = 256;
const MAX_VARIABLES: usize = 1024;
/// Longest error message, in characters.
const MAX_MESSAGE_CHARS: usize = 4000;

/// A script as it came.
pub struct RawScript(String);

/// A script that parses.
pub struct CheckedScript(AST);

/// Counts steps for good: once over its bound it stays over, whatever the script catches.
#[derive(Clone)]
pub(crate) struct Steps {
    taken: Rc<Cell<u64>>,
    most: u64,
}

impl Steps {
    pub(crate) fn new(most: u64) -> Self {
        Self { taken: Rc::default(), most }
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.get()
    }

    fn count(&self) -> bool {
        let taken = self.taken.get().saturating_add(1);
        self.taken.set(taken);
        taken <= self.most
    }

    fn used_up(&self) -> bool {
        self.taken.get() > self.most
    }
}

/// An engine with the standard functions that can do no harm, and none that could. Rhai's own size
/// limits stay off: they bound no total and make every step slower; the heap has the bound.
pub(crate) fn build(call_depth: usize, steps: &Steps) -> Engine {
    let mut engine = Engine::new_raw();
    StandardPackage::new().register_into_engine(&mut engine);
    engine.disable_symbol("eval");
    engine.disable_symbol("sleep");
    engine.set_max_call_levels(call_depth);
    engine.set_max_expr_depths(EXPRESSION_DEPTHS.0, EXPRESSION_DEPTHS.1);
    engine.set_max_functions(MAX_FUNCTIONS);
    engine.set_max_variables(MAX_VARIABLES);
    engine.register_fn("parse_json", crate::json::parse);
    let steps = steps.clone();
    // The engine's own count starts anew in callbacks of native functions, so it is not used.
    engine.on_progress(move |_| (!steps.count()).then_some(Dynamic::UNIT));
    engine
}

impl RawScript {
    /// Takes a script as it came.
    #[must_use]
    pub fn new(source: String) -> Self {
        Self(source)
    }

    /// Parses it.
    ///
    /// # Errors
    /// The ending that says why it is no script.
    pub(crate) fn parse(self, engine: &Engine) -> Result<CheckedScript, Ending> {
        if self.0.trim().is_empty() {
            let at = wire::script::Position::default();
            return Err(Ending::Failed(Failure::Parse, "the script is empty".into(), at));
        }
        engine.compile(self.0).map(CheckedScript).map_err(|mut error| {
            let at = position(error.1);
            error.1 = Position::NONE;
            let too_deep = matches!(*error.0, ParseErrorType::ExprTooDeep);
            let failure = if too_deep { Failure::Depth } else { Failure::Parse };
            Ending::Failed(failure, message(&error.0.to_string()), at)
        })
    }
}

impl CheckedScript {
    /// Runs it to its end.
    pub(crate) fn run(&self, engine: &Engine, steps: &Steps, result_bytes: usize) -> Ending {
        let evaluated = engine.eval_ast_with_scope::<Dynamic>(&mut Scope::new(), &self.0);
        if steps.used_up() {
            let at = evaluated.err().map(|error| position(error.position()));
            let text = format!("the script took more than {} operations", steps.most);
            return Ending::Failed(Failure::Operations, text, at.unwrap_or_default());
        }
        match evaluated {
            Ok(value) => result::flatten(value, result_bytes),
            Err(error) => failed(*error),
        }
    }

    /// The host functions that it names.
    #[must_use]
    pub(crate) fn sightings(&self) -> Vec<Sighting> {
        sightings::of(&self.0)
    }
}

/// Parses a script and reports the host functions that it names, as a worker does for a
/// [`wire::script::Task::Check`].
///
/// # Errors
/// The ending that says why it is no script.
pub fn check_source(job: &Job) -> Result<Vec<Sighting>, Ending> {
    let steps = Steps::new(job.operations);
    let engine = build(usize::try_from(job.call_depth).unwrap_or(usize::MAX), &steps);
    RawScript::new(job.source.clone()).parse(&engine).map(|script| script.sightings())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of the engine that grows")]
fn failed(mut error: EvalAltResult) -> Ending {
    let failure = match root(&error) {
        EvalAltResult::ErrorStackOverflow(_) => Failure::Depth,
        EvalAltResult::ErrorDataTooLarge(..) => Failure::Memory,
        EvalAltResult::ErrorTooManyOperations(_) => Failure::Operations,
        EvalAltResult::ErrorParsing(..) => Failure::Parse,
        _ => Failure::Script,
    };
    let at = position(error.take_position());
    let text = error.to_string();
    // What was thrown speaks for itself.
    Ending::Failed(failure, message(text.strip_prefix("Runtime error: ").unwrap_or(&text)), at)
}

/// The error below the calls that it passed through.
fn root(error: &EvalAltResult) -> &EvalAltResult {
    let mut error = error;
    while let EvalAltResult::ErrorInFunctionCall(_, _, inner, _) = error {
        error = inner;
    }
    error
}

pub(crate) fn position(position: Position) -> wire::script::Position {
    let number = |n: Option<usize>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    wire::script::Position { line: number(position.line()), column: number(position.position()) }
}

/// An error message on one line: a script can throw a text of any length with anything in it.
fn message(text: &str) -> String {
    wire::shown(text, MAX_MESSAGE_CHARS, false)
}
