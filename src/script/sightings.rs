//! Which host functions a script names, without running it. Hygiene, not a boundary: a script can
//! build a name at run time, and the broker decides then.

use rhai::{AST, ASTNode, Expr, FnCallExpr, Position, Stmt};
use wire::script::Sighting;
use wire::{CallName, KeyRef, Touches};

use crate::engine::position;

pub(crate) fn of(ast: &AST) -> Vec<Sighting> {
    let mut sightings = Vec::new();
    ast.walk(&mut |path| {
        if let Some(node) = path.last() {
            sightings.extend(sighting(node));
        }
        true
    });
    sightings.sort_by_key(|sighting| (sighting.at.line, sighting.at.column));
    sightings.dedup();
    sightings
}

#[expect(clippy::wildcard_enum_match_arm, reason = "enums of the engine that grow with its syntax")]
fn sighting(node: &ASTNode<'_>) -> Option<Sighting> {
    match node {
        ASTNode::Stmt(Stmt::FnCall(call, at)) => named(call, *at, false),
        ASTNode::Expr(Expr::FnCall(call, at)) => named(call, *at, false),
        ASTNode::Expr(Expr::MethodCall(call, at)) => named(call, *at, true),
        _ => None,
    }
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
    let index = usize::from(name == CallName::Sign);
    let named = matches!(
        name,
        CallName::CreateKeySpace
            | CallName::SelectKeySpace
            | CallName::DeleteKeySpace
            | CallName::CreateKeypair
            | CallName::SelectKeypair
            | CallName::DeleteKeypair
            | CallName::PublicKey
            | CallName::Sign
    );
    let literal = text(index).filter(|_| named && !as_method).and_then(|t| KeyRef::parse(t).ok());
    // A key space has no `/` in its name, and neither has a lone key: the name is in `key`.
    let literal = literal.filter(|l| name.touches() == Touches::Key || l.space.is_none());
    // `sign_all` is given several, and a method its first argument elsewhere.
    let place = place_of_message(name).filter(|_| call.name != "sign_all" && !as_method);
    let message = place.and_then(text).map(|text| text.as_bytes().to_vec());
    let namespace = text(0).filter(|_| name == CallName::SignIn && !as_method).map(str::to_owned);
    Some(Sighting { call: Some(name), literal, message, namespace, ..nameless(at) })
}

fn nameless(at: Position) -> Sighting {
    Sighting { call: None, at: position(at), literal: None, message: None, namespace: None }
}

/// Which argument is to be signed, verified or hashed.
fn place_of_message(name: CallName) -> Option<usize> {
    match name {
        CallName::Sign | CallName::Verify => Some(0),
        CallName::SignIn | CallName::VerifyWith | CallName::Hash => Some(1),
        CallName::CreateKeySpace
        | CallName::SelectKeySpace
        | CallName::ListKeySpaces
        | CallName::DeleteKeySpace
        | CallName::CreateKeypair
        | CallName::SelectKeypair
        | CallName::ListKeypairs
        | CallName::PublicKey
        | CallName::DeleteKeypair
        | CallName::RandomBytes => None,
    }
}
