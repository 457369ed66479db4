//! Which host functions a script names, without running it. Hygiene, not a boundary: a script can
//! build a name at run time, and the broker decides then.

use std::ops::RangeInclusive;

use rhai::{AST, ASTFlags, ASTNode, Expr, FnCallExpr, Position, Stmt};
use wire::script::Sighting;
use wire::{Algorithm, CallName, KeyRef, Name, Touches};

use crate::engine::position;

/// Tells of each, as the engine comes by it: some several times, and in no order.
pub(crate) fn find(ast: &AST, tell: &mut dyn FnMut(Sighting)) {
    ast.walk(&mut |path| look(path, tell));
}

/// Tells what the last node of a path names. The engine's walk leaves out what a `break` returns.
fn look(path: &[ASTNode<'_>], tell: &mut dyn FnMut(Sighting)) -> bool {
    let Some(node) = path.last() else { return true };
    if let Some(sighting) = sighting(node, is_on_a_literal(path)) {
        tell(sighting);
    }
    if let ASTNode::Stmt(Stmt::BreakLoop(Some(value), ..)) = node {
        value.walk(&mut Vec::new(), &mut |path| look(path, tell));
    }
    true
}

#[expect(clippy::wildcard_enum_match_arm, reason = "enums of the engine that grow with its syntax")]
fn sighting(node: &ASTNode<'_>, on_a_literal: bool) -> Option<Sighting> {
    match node {
        ASTNode::Stmt(Stmt::FnCall(call, at)) => named(call, *at, false),
        ASTNode::Expr(Expr::FnCall(call, at)) => named(call, *at, false),
        ASTNode::Expr(Expr::MethodCall(call, at)) => {
            Some(Sighting { perhaps_own: !on_a_literal, ..named(call, *at, true)? })
        }
        _ => None,
    }
}

/// Whether the last node of a path is called on a literal, rather than on what may be an object map with
/// a function of its own.
fn is_on_a_literal(path: &[ASTNode<'_>]) -> bool {
    let [around @ .., ASTNode::Expr(dot @ Expr::Dot(parts, ..)), _] = path else { return false };
    // `x[0].f()` is kept as `x[(0.f())]`, but for a flag: `0` is where in `x` that is which has the function.
    let is_index = |around: &ASTNode<'_>| {
        matches!(around, ASTNode::Expr(Expr::Index(of, flags, _))
            if std::ptr::eq(*dot, &raw const of.rhs) && !flags.contains(ASTFlags::BREAK))
    };
    if around.last().is_some_and(is_index) {
        return false;
    }
    matches!(
        parts.lhs,
        Expr::StringConstant(..)
            | Expr::InterpolatedString(..)
            | Expr::IntegerConstant(..)
            | Expr::CharConstant(..)
            | Expr::BoolConstant(..)
            | Expr::Array(..)
    )
}

fn named(call: &FnCallExpr, at: Position, as_method: bool) -> Option<Sighting> {
    let text = |index: usize| match call.args.get(index) {
        Some(Expr::StringConstant(text, _)) => Some(text.as_str()),
        Some(_) | None => None,
    };
    // `Fn("sign")` names it as well.
    if call.name == "Fn" {
        let named = text(0).map(CallName::from_word);
        // Of a name that is written out and not ours there is nothing to say.
        let call = named.map_or(Some(None), |ours| ours.map(Some))?;
        return Some(Sighting { call, ..nameless(at) });
    }
    let name = CallName::from_word(&call.name)?;
    let Form { key, message, without_key } = form_of(name);
    // A method has its first argument elsewhere.
    let literal = key.filter(|_| !as_method).and_then(text).and_then(|t| KeyRef::parse(t).ok());
    // A key space has no `/` in its name, and neither has a lone key: the name is in `key`.
    let literal = literal.filter(|l| name.touches() == Touches::Key || l.space.is_none());
    // `sign_all` is given several.
    let place = message.filter(|_| call.name != "sign_all" && !as_method);
    // With another number of arguments it is an error of the script, and nothing is decided.
    let place = place.filter(|(_, arguments)| arguments.contains(&call.args.len()));
    let message = place.clone().and_then(|(at, _)| text(at)).map(|text| text.as_bytes().to_vec());
    let namespace = text(0).filter(|_| name == CallName::SignIn && place.is_some());
    let namespace = namespace.filter(|text| Name::parse(text).is_ok()).map(str::to_owned);
    // What is no namespace is an error of the script as well.
    let message =
        message.filter(|_| name != CallName::SignIn || namespace.is_some() || text(0).is_none());
    let algorithm = match (name, call.args.len()) {
        (CallName::CreateKeypair, 1) => Some(Algorithm::Ed25519),
        (CallName::CreateKeypair, 2) => text(1).and_then(Algorithm::from_word),
        (_, _) => None,
    };
    let algorithm = algorithm.filter(|_| !as_method);
    let on_selected = !as_method && without_key == Some(call.args.len());
    // `key.encrypt(text)` is given two as well.
    let own_key = may_be_given_a_key(name) && call.args.len() + usize::from(as_method) == 2;
    let known = Sighting { call: Some(name), literal, message, namespace, ..nameless(at) };
    Some(Sighting { on_selected, own_key, algorithm, ..known })
}

/// Whether it may be given the key itself, rather than the name of one.
fn may_be_given_a_key(name: CallName) -> bool {
    name.may_touch_nothing() && name.touches() == Touches::Key
}

fn nameless(at: Position) -> Sighting {
    Sighting { at: position(at), ..Sighting::default() }
}

/// What the arguments of a host function are.
#[derive(Default)]
struct Form {
    /// Which one names a key or a key space.
    key: Option<usize>,
    /// Which one is to be signed, verified or hashed, and how many there are then.
    message: Option<(usize, RangeInclusive<usize>)>,
    /// With how many none of them is a key, so that the selected one is meant.
    without_key: Option<usize>,
}

fn form_of(name: CallName) -> Form {
    let none = Form::default();
    match name {
        CallName::CreateKeySpace
        | CallName::SelectKeySpace
        | CallName::DeleteKeySpace
        | CallName::ExportKeySpace
        | CallName::CreateKeypair
        | CallName::SelectKeypair
        | CallName::DeleteKeypair => Form { key: Some(0), ..none },
        CallName::PublicKey | CallName::RotateKeypair => {
            Form { key: Some(0), without_key: Some(0), ..none }
        }
        CallName::Sign | CallName::SignSchnorr | CallName::PersonalSign | CallName::Hmac => {
            Form { key: Some(1), message: Some((0, 1..=2)), without_key: Some(1) }
        }
        // What it is given is the digest in hexadecimal digits, and not what the policy sees.
        CallName::SignDigest => Form { key: Some(1), without_key: Some(1), ..none },
        CallName::SignIn => Form { message: Some((1, 2..=2)), without_key: Some(2), ..none },
        CallName::Verify => Form { message: Some((0, 2..=2)), without_key: Some(2), ..none },
        CallName::Encrypt | CallName::Decrypt | CallName::DecryptFrom => {
            Form { without_key: Some(1), ..none }
        }
        CallName::VerifyWith => Form { message: Some((1, 3..=4)), ..none },
        CallName::Hash => Form { message: Some((1, 2..=2)), ..none },
        CallName::ListKeySpaces
        | CallName::ListKeypairs
        | CallName::EncryptTo
        | CallName::GenerateKey
        | CallName::RandomBytes => none,
    }
}

#[cfg(test)]
mod tests {
    use wire::script::{Job, Task};

    use super::*;
    use crate::{Probe, check_source};

    fn seen_in(source: &str) -> Vec<Sighting> {
        let (task, source) = (Task::Check, source.to_owned());
        let bounds = Job {
            task,
            source,
            operations: 0,
            memory_bytes: 0,
            call_depth: 0,
            result_bytes: 0,
            granted: Vec::new(),
        };
        check_source(bounds).unwrap()
    }

    fn named_in(source: &str) -> Vec<CallName> {
        seen_in(source).into_iter().filter_map(|sighting| sighting.call).collect()
    }

    #[test]
    fn every_name_of_the_host_that_a_script_takes_is_found_at_its_place_and_hides_nothing() {
        let source = "fn sign(sign) { sign }\nprivate fn hash(a) {a}\ndelete_keypair(\"a/k\");\n  fn encrypt(\n) { }\nfn /* x */ int.hmac() { fine() }\nfn fine() { }";
        let seen: Vec<_> = seen_in(source)
            .into_iter()
            .map(|one| {
                (
                    one.shadows.or(one.call.map(|call| call.to_string())).unwrap(),
                    one.at.line,
                    one.at.column,
                )
            })
            .collect();
        let expected = [
            ("sign", 1, 4),
            ("hash", 2, 12),
            ("delete_keypair", 3, 1),
            ("encrypt", 4, 6),
            ("hmac", 6, 16),
        ];
        assert_eq!(seen, expected.map(|(name, line, column)| (name.to_owned(), line, column)));
    }

    /// Where a call may stand: `@`.
    const PLACES: &str = r#"@
let x = @;
const X = @;
let x = 1; x = @;
let x = 1; x += @;
let x = []; x[@] = 1;
if @ { }
if true { @ }
if false { } else { @ }
if false { } else if @ { }
let x = if true { @ };
switch @ { _ => 1 }
switch 1 { 1 => @ }
switch 1 { 1 if @ => 2 }
switch 1 { 0..3 => @ }
switch 1 { 0..3 if @ => 2 }
switch 1 { _ => @ }
switch 1 { 1 => { @ } }
while @ { }
while true { @ }
do { @ } while true
do { } until @
loop { @ }
loop { break @; }
let x = loop { break @ };
loop { break loop { break @; }; }
loop { break [1, @]; }
loop { break if true { @ }; }
while true { break @; }
for i in @ { }
for i in 0..3 { @ }
for i in 0..3 { break @; }
return @;
throw @;
try { @ } catch { }
try { } catch (e) { @ }
[1, @]
#{ a: @ }
[1][@]
(@)[0]
(@).len()
"x".pad(@, 'x')
`${@}`
`a ${ { @ } } b`
type_of(@)
{ @ }
let x = { @ };
!@
-@
1 + @
@ + 1
true && @
true || @
() ?? @
1 in @
0..@
let f = |x| @;
let f = || { @ };
let y = 1; let f = |x| y + @;
fn f() { @ }
fn f() { |x| loop { break @; } }
private fn f() { @ }
let x = #{}; x?.a(@);
f(|x| @)
Fn("f").curry(@)"#;

    #[test]
    fn a_call_cannot_hide_in_any_place_of_the_syntax() {
        for place in PLACES.lines() {
            let source = place.replace('@', "delete_keypair(\"a/k\")");
            assert!(named_in(&source).contains(&CallName::DeleteKeypair), "{place}");
        }
    }

    #[test]
    fn what_is_called_on_an_entry_of_a_list_may_be_a_function_of_its_own() {
        let is_perhaps_own = |script: &str| {
            let seen = seen_in(script);
            let [one] = seen.as_slice() else { panic!("{script}: {seen:?}") };
            one.perhaps_own
        };
        for script in [
            "let t = [#{}]; t[0].sign(\"x\")",
            "let t = [#{}]; t[0]?.sign(\"x\")",
            "let t = #{}; t[\"a\"].sign(\"x\")",
            "let t = #{}; t.a[0].sign(\"x\")",
            "let t = #{}; t[\"a\"][0].sign(\"x\")",
            "let t = #{}; t[[0][0]].sign(\"x\")",
            "let t = #{}; t?[0].sign(\"x\")",
            "[#{}][0].sign(\"x\")",
            "#{ a: #{} }.a.sign(\"x\")",
        ] {
            assert!(is_perhaps_own(script), "{script}");
        }
        for script in [
            "\"x\".sign()",
            "[0].sign()",
            "let t = #{}; t[\"x\".sign()]",
            "let t = #{}; t[0][\"x\".sign()]",
            "let t = #{}; t[\"x\".sign()].len()",
            "let t = #{}; t.a = \"x\".sign()",
        ] {
            assert!(!is_perhaps_own(script), "{script}");
        }
    }

    #[test]
    fn a_key_of_its_own_is_told_from_the_selected_one_by_the_number_of_arguments() {
        for (script, expected) in [
            ("encrypt(\"k\", \"m\")", (true, false)),
            ("let k = \"k\"; decrypt(k, \"m\")", (true, false)),
            ("\"k\".encrypt(\"m\")", (true, false)),
            ("encrypt(\"m\")", (false, true)),
            // Of these nothing is known, or nothing is decided.
            ("\"m\".encrypt()", (false, false)),
            ("encrypt(\"k\", \"m\", 1)", (false, false)),
            ("Fn(\"encrypt\")", (false, false)),
            // Not the key, but its name.
            ("sign(\"m\", \"k\")", (false, false)),
            ("hash(\"sha256\", \"m\")", (false, false)),
        ] {
            let seen = seen_in(script);
            let [one] = seen.as_slice() else { panic!("{script}: {seen:?}") };
            assert_eq!((one.own_key, one.on_selected), expected, "{script}");
        }
    }

    #[test]
    fn a_function_is_given_to_an_array_as_a_function_and_not_by_its_name() {
        let engine = Probe::new();
        let begin = "fn f(a) { true } fn g(a, b) { 1 } let l = [1, 2];";
        for (method, function, more) in [
            ("map", "f", ""),
            ("filter", "f", ""),
            ("some", "f", ""),
            ("all", "f", ""),
            ("dedup", "g", ""),
            ("reduce", "g", ""),
            ("reduce", "g", ", 0"),
            ("reduce_rev", "g", ""),
            ("reduce_rev", "g", ", 0"),
            ("sort", "g", ""),
            ("drain", "f", ""),
            ("retain", "f", ""),
        ] {
            let run = |given: &str| engine.run(&format!("{begin} l.{method}({given}{more});"));
            assert!(run(&format!("Fn(\"{function}\")")), "{method}{more}");
            assert!(!run(&format!("\"{function}\"")), "{method}{more} takes a name");
        }
        // To look for a text is to look for a text.
        for looked_for in [
            "l.index_of(\"f\") == 1",
            "l.index_of(\"f\", 2) == 3",
            "l.index_of(\"f\", -1) == 3",
            "l.index_of(\"f\", -9) == 1",
            "l.index_of(\"f\", 9) == -1",
            "l.index_of(\"x\") == -1",
        ] {
            let script = format!(
                "fn f(a) {{ true }} let l = [1, \"f\", 2, \"f\"]; if !({looked_for}) {{ throw 1; }}"
            );
            assert!(engine.run(&script), "{looked_for}");
        }
    }
}
