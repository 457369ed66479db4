//! An engine built from nothing, and a script's way from text to value.

use std::collections::BTreeSet;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use rhai::packages::{Package, StandardPackage};
use rhai::{
    AST, Array, Dynamic, Engine, EvalAltResult, ImmutableString, ParseErrorType, Position, Scope,
};
use wire::CallName;
use wire::script::{Ending, Failure, Job, Sighting, shadowed};

use crate::watch::Watch;
use crate::{result, sightings};

/// Deepest nesting of expressions, outside and inside functions: the parser and the engine use
/// native stack for each level.
const EXPRESSION_DEPTHS: (usize, usize) = (64, 32);
/// Most functions and variables of a script: ten times what people write in 64 KiB.
const MAX_FUNCTIONS: usize = 256;
const MAX_VARIABLES: usize = 1024;
/// Longest name in an error message, in characters.
const MAX_SHOWN_NAME_CHARS: usize = 64;
/// Longest error message, in characters.
const MAX_MESSAGE_CHARS: usize = 4000;

/// A script as it came.
pub struct RawScript(String);

/// A script that parses.
pub struct CheckedScript(AST);

/// The names that a script may not give to functions of its own, besides those of the host.
const RESERVED: [&str; 7] =
    ["print", "debug", "parse_json", "hex_encode", "hex_decode", "base64_encode", "base64_decode"];

/// An engine with the standard functions that can do no harm, and none that could, used once so that
/// what it makes on first use is there. Rhai's own size limits stay off: they bound no total and make
/// every step slower; the heap has the bound.
pub(crate) fn prepare() -> Engine {
    let mut engine = Engine::new_raw();
    StandardPackage::new().register_into_engine(&mut engine);
    engine.disable_symbol("eval");
    engine.set_max_expr_depths(EXPRESSION_DEPTHS.0, EXPRESSION_DEPTHS.1);
    engine.set_max_functions(MAX_FUNCTIONS);
    engine.set_max_variables(MAX_VARIABLES);
    engine.register_fn("parse_json", crate::json::parse);
    engine.register_fn("sleep", |_: i64| no_clock());
    engine.register_fn("sleep", |_: f64| no_clock());
    take_no_names(&mut engine);
    // What it gives is of no interest.
    let _warm = engine.eval::<Dynamic>(WARM_UP);
    engine
}

/// A little of everything that keeps something for the next time: hash seeds, tables, buffers.
const WARM_UP: &str = r#"
    fn twice(n) { n * 2 }
    let list = [1, 2.5, 'c', "text", #{ a: 1 }, |x| x + 1];
    let sum = 0;
    for i in 0..3 { sum += twice(i); }
    try { throw `${list} ${sum}`; } catch (error) { list.push(parse_json("[1]")); }
    list.map(|item| type_of(item)).sort();
    list.len()
"#;

/// Sets the bounds of one script.
pub(crate) fn bound(engine: &mut Engine, watch: &Rc<Watch>) {
    // The engine's own error of too many levels can be swallowed by `sort` and caught behind `map`. So
    // levels are looked at where a variable is, and what has none meets the end of the stack in time:
    // both end the script for good.
    engine.set_max_call_levels(usize::MAX);
    let watch = Rc::clone(watch);
    let levels = Rc::clone(&watch);
    // The engine's own count starts anew in callbacks of native functions, so it is not used.
    engine.on_progress(move |_| (!watch.step()).then_some(Dynamic::UNIT));
    #[expect(
        deprecated,
        reason = "the engine marks by this what may change, and its version is pinned"
    )]
    engine.on_var(move |_, _, context| {
        if levels.is_within(context.call_level()) {
            Ok(None)
        } else {
            Err(EvalAltResult::ErrorStackOverflow(Position::NONE).into())
        }
    });
}

/// The array functions that still take the name of a function as text, which would name a host function
/// where nobody sees it. `Fn("name")` stays.
fn take_no_names(engine: &mut Engine) {
    for name in
        ["map", "filter", "some", "all", "dedup", "reduce", "reduce_rev", "sort", "drain", "retain"]
    {
        engine.register_fn(name, |_: &mut Array, function: &str| no_name(function));
    }
    for name in ["reduce", "reduce_rev"] {
        engine.register_fn(name, |_: &mut Array, function: &str, _: Dynamic| no_name(function));
    }
    engine.register_fn("index_of", |list: &mut Array, text: &str| index_of(list, text, 0));
    engine.register_fn("index_of", |list: &mut Array, text: &str, from: i64| {
        index_of(list, text, from)
    });
}

fn no_name(function: &str) -> Result<(), Box<EvalAltResult>> {
    let name = wire::shown(function, MAX_SHOWN_NAME_CHARS, false);
    Err(format!("a function is given as `Fn(\"{name}\")`, not as text").into())
}

/// As the engine does it for all else: from behind if `from` is negative, and -1 where there is none.
fn index_of(list: &Array, text: &str, from: i64) -> i64 {
    let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
    let from = if from < 0 { from.saturating_add(length).max(0) } else { from };
    let is_it = |item: &Dynamic| item.read_lock::<ImmutableString>().is_some_and(|it| *it == text);
    let found = list.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)).position(is_it);
    found.and_then(|at| i64::try_from(at).ok()).map_or(-1, |at| at.saturating_add(from))
}

fn no_clock() -> Result<(), Box<EvalAltResult>> {
    Err("there is no clock here, so nothing to sleep by".into())
}

/// An address on the stack, about where the caller is.
#[inline(never)]
pub(crate) fn here() -> usize {
    let marker = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&marker)).addr()
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
        let ast = self.compile(engine)?;
        match self.shadowing(&ast).into_iter().next() {
            Some((name, at)) => Err(Ending::Failed(Failure::Parse, shadowed(&name), at)),
            None => Ok(CheckedScript(ast)),
        }
    }

    /// Tells of the host functions that it names, and of the names of the host's that it takes for its own.
    fn find(&self, engine: &Engine, tell: &mut dyn FnMut(Sighting)) -> Result<(), Ending> {
        let ast = self.compile(engine)?;
        sightings::find(&ast, tell);
        for (name, at) in self.shadowing(&ast) {
            tell(Sighting { shadows: Some(name), at, ..Sighting::default() });
        }
        Ok(())
    }

    fn compile(&self, engine: &Engine) -> Result<AST, Ending> {
        if self.0.trim().is_empty() {
            let at = wire::script::Position::default();
            return Err(Ending::Failed(Failure::Parse, "the script is empty".into(), at));
        }
        engine.compile(&self.0).map_err(|mut error| {
            let at = position(error.1);
            error.1 = Position::NONE;
            let too_deep = matches!(*error.0, ParseErrorType::ExprTooDeep);
            let failure = if too_deep { Failure::Depth } else { Failure::Parse };
            Ending::Failed(failure, message(&error.0.to_string()), at)
        })
    }

    /// The functions of the script with names of the host's, in the order in which they stand there.
    fn shadowing(&self, ast: &AST) -> Vec<(String, wire::script::Position)> {
        let is_taken = |name: &str| RESERVED.contains(&name) || CallName::from_word(name).is_some();
        let functions = ast.iter_fn_def().filter(|function| is_taken(&function.name));
        let mut found: Vec<_> = functions
            .map(|function| {
                let body = position(function.body.start_position());
                (function.name.to_string(), self.name_before(body, &function.name).unwrap_or(body))
            })
            .collect();
        found.sort_by_key(|(_, at)| (at.line, at.column));
        found
    }

    /// Where the name of the function with this body stands: the engine does not keep that.
    fn name_before(
        &self,
        body: wire::script::Position,
        name: &str,
    ) -> Option<wire::script::Position> {
        let number = |n: u32| usize::try_from(n).ok()?.checked_sub(1);
        let lines = self.0.split_inclusive('\n').take(number(body.line)?);
        let begin = lines.map(str::len).sum::<usize>();
        let line = self.0.get(begin..)?;
        let (column, _) = line.char_indices().nth(number(body.column)?)?;
        let head = self.0.get(..begin + column)?;
        let is_name = |at: &usize| {
            let before = head.get(..*at).unwrap_or_default().trim_end();
            let after = head.get(at + name.len()..).unwrap_or_default().trim_start();
            (before.ends_with("fn") || before.ends_with('.')) && after.starts_with('(')
        };
        let at = head.rmatch_indices(name).map(|(at, _)| at).find(is_name)?;
        let above = head.get(..at)?;
        let own_line = above.rsplit('\n').next()?;
        let number = |n: usize| u32::try_from(n + 1).ok();
        Some(wire::script::Position {
            line: number(above.matches('\n').count())?,
            column: number(own_line.chars().count())?,
        })
    }
}

impl CheckedScript {
    /// Runs it to its end.
    pub(crate) fn run(&self, engine: &Engine, watch: &Watch, result_bytes: usize) -> Ending {
        let mut scope = ManuallyDrop::new(Scope::new());
        let evaluated = engine.eval_ast_with_scope::<Dynamic>(&mut scope, &self.0);
        if let Some((failure, text)) = watch.passed() {
            let at = evaluated.err().map(|error| position(error.position()));
            return Ending::Failed(failure, text, at.unwrap_or_default());
        }
        match evaluated {
            Ok(value) => result::flatten(value, result_bytes),
            Err(error) => failed(*error),
        }
    }
}

/// Parses a script and tells of each host function that it names.
pub(crate) fn check(
    job: Job,
    engine: &Engine,
    tell: &mut dyn FnMut(Sighting),
) -> Result<(), Ending> {
    RawScript::new(job.source).find(engine, tell)
}

/// The same with an engine of its own, as a worker does for a [`wire::script::Task::Check`].
///
/// # Errors
/// The ending that says why it is no script.
pub fn check_source(job: Job) -> Result<Vec<Sighting>, Ending> {
    let mut seen = BTreeSet::new();
    check(job, &prepare(), &mut |sighting| {
        seen.insert(sighting);
    })?;
    Ok(seen.into_iter().collect())
}

/// An engine as the worker builds it, in this very process and without any bounds: what containment
/// is measured against. It has no host functions.
pub struct Probe(Engine);

impl Probe {
    /// Builds it.
    #[expect(clippy::new_without_default, reason = "nothing of it is a default")]
    #[must_use]
    pub fn new() -> Self {
        Self(prepare())
    }

    /// Runs a script of the measurement; whether it ended well.
    #[must_use]
    pub fn run(&self, source: &str) -> bool {
        let script = RawScript::new(source.to_owned()).parse(&self.0);
        let watch = Watch::new(u64::MAX, usize::MAX, 0);
        script.is_ok_and(|script| matches!(script.run(&self.0, &watch, 1_000), Ending::Value(_)))
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of the engine that grows")]
fn failed(mut error: EvalAltResult) -> Ending {
    let failure = match root(&error) {
        EvalAltResult::ErrorStackOverflow(_) => Failure::Depth,
        EvalAltResult::ErrorDataTooLarge(..) => Failure::Memory,
        EvalAltResult::ErrorTooManyOperations(_) => Failure::Operations,
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
