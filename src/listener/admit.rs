//! NATS message → request frame. Nothing is judged here but size and the spelling of one header.

use async_nats::{HeaderMap, Message};
use wire::request::{JSON_MEDIA_TYPE, MAX_PROOF_BYTES, PROOF_HEADER, ProofHeader, Request};
use wire::script::MAX_SCRIPT_BYTES;

/// A message as a request, or the number of its bytes when no policy allows so many.
pub(crate) fn request(message: &Message, ticket: u64) -> Result<Request, usize> {
    if message.payload.len() > MAX_SCRIPT_BYTES {
        return Err(message.payload.len());
    }
    let headers = message.headers.as_ref();
    Ok(Request {
        ticket,
        proof: headers.map_or(ProofHeader::Absent, proof),
        wants_json: headers.is_some_and(wants_json),
        body: message.payload.to_vec(),
    })
}

/// Exactly one header of exactly this name. Headers of NATS are case-sensitive, so another spelling
/// could slip past one reader and be found by the next: it makes the proof unusable.
fn proof(headers: &HeaderMap) -> ProofHeader {
    let spelled = |name: &str| name.eq_ignore_ascii_case(PROOF_HEADER);
    let mut values = headers
        .iter()
        .filter(|(name, _)| spelled(name.as_ref()))
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    match (values.next(), values.next()) {
        (None, None) => ProofHeader::Absent,
        (Some((name, value)), None) => {
            let name: &str = name.as_ref();
            if name == PROOF_HEADER && value.as_str().len() <= MAX_PROOF_BYTES {
                ProofHeader::One(value.as_str().to_owned())
            } else {
                ProofHeader::Unusable
            }
        }
        (_, Some(_)) => ProofHeader::Unusable,
    }
}

/// Whether the caller asked for the full JSON reply.
pub(crate) fn wants_json(headers: &HeaderMap) -> bool {
    headers.get("Accept").is_some_and(|value| value.as_str() == JSON_MEDIA_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(headers: &[(&str, &str)]) -> ProofHeader {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, *value);
        }
        proof(&map)
    }

    #[test]
    fn a_repeated_or_misspelt_proof_is_no_proof_and_not_absent() {
        assert_eq!(found(&[]), ProofHeader::Absent);
        assert_eq!(found(&[("Accept", "x")]), ProofHeader::Absent);
        assert_eq!(found(&[("Crypto-Proof", "a.b.c")]), ProofHeader::One("a.b.c".into()));
        for bad in [
            &[("Crypto-Proof", "a"), ("Crypto-Proof", "a")][..],
            &[("Crypto-Proof", "a"), ("crypto-proof", "b")],
            &[("crypto-proof", "a")],
            &[("CRYPTO-PROOF", "a")],
            &[("Crypto-Proof", &"x".repeat(MAX_PROOF_BYTES + 1))],
        ] {
            assert_eq!(found(bad), ProofHeader::Unusable, "{bad:?}");
        }
    }
}
