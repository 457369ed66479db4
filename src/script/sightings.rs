//! Which host functions a script names, without running it. Hygiene, not a boundary: a script can
//! build a name at run time, and the broker decides then.

use std::ops::RangeInclusive;

use rhai::{AST, ASTNode, Expr, FnCallExpr, Position, Stmt};
use wire::script::Sighting;
use wire::{CallName, KeyRef, Name, Touches};

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
    let after_message = [
        CallName::Sign,
        CallName::SignDigest,
        CallName::SignSchnorr,
        CallName::PersonalSign,
        CallName::Hmac,
    ];
    let index = usize::from(after_message.contains(&name));
    let named = matches!(
        name,
        CallName::CreateKeySpace
            | CallName::SelectKeySpace
            | CallName::DeleteKeySpace
            | CallName::ExportKeySpace
            | CallName::CreateKeypair
            | CallName::SelectKeypair
            | CallName::DeleteKeypair
            | CallName::PublicKey
            | CallName::RotateKeypair
            | CallName::Sign
            | CallName::SignDigest
            | CallName::SignSchnorr
            | CallName::PersonalSign
            | CallName::Hmac
    );
    let literal = text(index).filter(|_| named && !as_method).and_then(|t| KeyRef::parse(t).ok());
    // A key space has no `/` in its name, and neither has a lone key: the name is in `key`.
    let literal = literal.filter(|l| name.touches() == Touches::Key || l.space.is_none());
    // `sign_all` is given several, and a method its first argument elsewhere.
    let place = place_of_message(name).filter(|_| call.name != "sign_all" && !as_method);
    // With another number of arguments it is an error of the script, and nothing is decided.
    let place = place.filter(|(_, arguments)| arguments.contains(&call.args.len()));
    let message = place.clone().and_then(|(at, _)| text(at)).map(|text| text.as_bytes().to_vec());
    let namespace = text(0).filter(|_| name == CallName::SignIn && place.is_some());
    let namespace = namespace.filter(|text| Name::parse(text).is_ok()).map(str::to_owned);
    // What is no namespace is an error of the script as well.
    let message =
        message.filter(|_| name != CallName::SignIn || namespace.is_some() || text(0).is_none());
    Some(Sighting { call: Some(name), literal, message, namespace, ..nameless(at) })
}

fn nameless(at: Position) -> Sighting {
    Sighting { call: None, at: position(at), literal: None, message: None, namespace: None }
}

/// Which argument is to be signed, verified or hashed, and how many there are.
fn place_of_message(name: CallName) -> Option<(usize, RangeInclusive<usize>)> {
    match name {
        CallName::Sign | CallName::SignSchnorr | CallName::PersonalSign | CallName::Hmac => {
            Some((0, 1..=2))
        }
        CallName::Verify => Some((0, 2..=2)),
        CallName::SignIn | CallName::Hash => Some((1, 2..=2)),
        CallName::VerifyWith => Some((1, 3..=4)),
        CallName::CreateKeySpace
        | CallName::SelectKeySpace
        | CallName::ListKeySpaces
        | CallName::DeleteKeySpace
        | CallName::ExportKeySpace
        | CallName::CreateKeypair
        | CallName::SelectKeypair
        | CallName::ListKeypairs
        | CallName::PublicKey
        | CallName::RotateKeypair
        | CallName::DeleteKeypair
        | CallName::SignDigest
        | CallName::Encrypt
        | CallName::Decrypt
        | CallName::EncryptTo
        | CallName::DecryptFrom
        | CallName::GenerateKey
        | CallName::RandomBytes => None,
    }
}
