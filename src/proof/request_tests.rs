//! What is a proof, and all that is none.

use super::*;
use crate::jws::complete;
use data_encoding::BASE64URL_NOPAD as B64U;
use proptest::prelude::*;

const BODY: &[u8] = b"40 + 2";
const NOW: u64 = 1_800_000_000;
const JTI: &str = "0123456789abcdef0123456789abcdef";

const TO: Addressee<'static> = Addressee { aud: "signer", nkey: "N" };

fn expected() -> Expected<'static> {
    Expected { to: TO, payload: BODY, now: NOW, window: 30 }
}

fn check(text: &str) -> Result<Verified, Fault> {
    Signed::parse(text)?.verify(&expected())
}

/// A proof with these JSON texts as header and claims, signed by `who` whatever they say.
fn forge(who: &Identity, header: &str, claims: &str) -> String {
    let input = format!("{}.{}", B64U.encode(header.as_bytes()), B64U.encode(claims.as_bytes()));
    complete(&input, &who.sign(&[&TO.prefix(), input.as_bytes()].concat()))
}

fn header(who: &Identity) -> String {
    format!(r#"{{"alg":"ccreq1","typ":"ccreq+jwt","kid":"{}"}}"#, who.nkey())
}

fn claims() -> String {
    let bh = crate::digest(BODY);
    format!(r#"{{"aud":"signer","op":"run","iat":{NOW},"jti":"{JTI}","bh":"{bh}"}}"#)
}

#[test]
fn a_proof_says_who_asked_for_what() {
    let who = Identity::generate();
    let text = write_request(&who, TO, NOW, JTI, BODY, Terms::default());
    assert_eq!(Signed::parse(&text).unwrap().kid(), who.nkey());
    let verified = check(&text).unwrap();
    let (kid, jti) = (who.nkey(), JTI.to_owned());
    assert_eq!(verified, Verified { kid, iat: NOW, jti, exp: None, idem: false });
    assert!(check(&forge(&who, &header(&who), &claims())).is_ok());
}

#[test]
fn a_key_id_that_is_longer_than_any_nkey_is_malformed() {
    let who = Identity::generate();
    let fault = |kid: &str| {
        let header = format!(r#"{{"alg":"ccreq1","typ":"ccreq+jwt","kid":"{kid}"}}"#);
        Signed::parse(&forge(&who, &header, &claims())).err()
    };
    assert_eq!(fault(&who.nkey()), None);
    assert_eq!(fault(&"U".repeat(56)), None, "it is nobody's, which is found out later");
    assert_eq!(fault(&"U".repeat(57)), Some(Fault::Malformed));
}

#[test]
fn a_proof_for_something_else_is_refused() {
    let who = Identity::generate();
    let other = |aud, iat, body: &[u8]| {
        let to = Addressee { aud, ..TO };
        check(&write_request(&who, to, iat, JTI, body, Terms::default()))
    };
    assert_eq!(other("other", NOW, BODY), Err(Fault::WrongAudience));
    assert_eq!(other("signer", NOW, b"41 + 2"), Err(Fault::WrongPayload));
    let off = |before| Err(Fault::OutsideWindow { seconds: 31, before });
    assert_eq!(other("signer", NOW - 31, BODY), off(true));
    assert_eq!(other("signer", NOW + 31, BODY), off(false));
    assert!(other("signer", NOW - 30, BODY).is_ok());
    assert!(other("signer", NOW + 30, BODY).is_ok());
    let moved = claims().replace("\"run\"", "\"erase\"");
    assert_eq!(check(&forge(&who, &header(&who), &moved)), Err(Fault::WrongOperation));
    let ended = claims().replace("{\"aud\"", &format!("{{\"exp\":{NOW},\"aud\""));
    assert_eq!(check(&forge(&who, &header(&who), &ended)), Err(Fault::Ended));
}

#[test]
fn a_proof_that_was_good_is_not_good_for_ever() {
    let who = Identity::generate();
    let ends = claims().replace("{\"aud\"", &format!("{{\"exp\":{},\"aud\"", NOW + 10));
    let verified = check(&forge(&who, &header(&who), &ends)).unwrap();
    assert_eq!(verified.in_time(NOW + 9, 30), Ok(()));
    assert_eq!(verified.in_time(NOW + 10, 30), Err(Fault::Ended));
    let verified = check(&forge(&who, &header(&who), &claims())).unwrap();
    assert_eq!(verified.in_time(NOW + 30, 30), Ok(()));
    let late = Fault::OutsideWindow { seconds: 31, before: true };
    assert_eq!(verified.in_time(NOW + 31, 30), Err(late));
}

#[test]
fn a_proof_for_a_service_of_the_same_name_with_another_key_is_refused() {
    let who = Identity::generate();
    let to = Addressee { nkey: "M", ..TO };
    let text = write_request(&who, to, NOW, JTI, BODY, Terms::default());
    assert_eq!(check(&text), Err(Fault::BadSignature));
}

#[test]
fn what_a_server_has_signed_as_its_nonce_is_no_proof() {
    let who = Identity::generate();
    let text = write_request(&who, TO, NOW, JTI, BODY, Terms::default());
    let (signed, _) = text.rsplit_once('.').unwrap();
    let as_nonce = complete(signed, &who.sign(signed.as_bytes()));
    assert_eq!(check(&as_nonce), Err(Fault::BadSignature));
    // Nor can all of it be one: a nonce is text.
    assert!(std::str::from_utf8(&TO.prefix()).is_err());
}

#[test]
fn a_proof_signed_by_another_key_is_refused() {
    let (who, thief) = (Identity::generate(), Identity::generate());
    let forged = forge(&thief, &header(&who), &claims());
    assert_eq!(check(&forged), Err(Fault::BadSignature));
}

#[test]
fn other_algorithms_types_and_kinds_of_key_are_refused() {
    let who = Identity::generate();
    let as_header = |header: &str| check(&forge(&who, header, &claims()));
    assert_eq!(as_header(&header(&who).replace("ccreq1", "none")), Err(Fault::WrongType));
    assert_eq!(as_header(&header(&who).replace("ccreq1", "EdDSA")), Err(Fault::WrongType));
    assert_eq!(as_header(&header(&who).replace("ccreq", "ccres")), Err(Fault::WrongType));
    let account = nkeys::KeyPair::new_account().public_key();
    let other_kind = header(&who).replace(&who.nkey(), &account);
    assert_eq!(as_header(&other_kind), Err(Fault::BadKeyId));
    let lower = header(&who).replace(&who.nkey(), &who.nkey().to_lowercase());
    assert_eq!(as_header(&lower), Err(Fault::BadKeyId));
}

#[test]
fn members_that_are_missing_unknown_repeated_or_null_are_refused() {
    let who = Identity::generate();
    let good = claims();
    for bad in [
        good.replace("\"op\":\"run\",", ""),
        good.replace("{\"aud\"", "{\"sub\":\"x\",\"aud\""),
        good.replace("{\"aud\"", "{\"aud\":\"signer\",\"aud\""),
        good.replace("{\"aud\"", "{\"exp\":null,\"aud\""),
        good.replace("{\"aud\"", "{\"idem\":null,\"aud\""),
        good.replace(&NOW.to_string(), &format!("-{NOW}")),
        good.replace(&NOW.to_string(), &format!("{NOW}.5")),
        good.replace(JTI, "short"),
        good.replace(JTI, &"a".repeat(65)),
        good.replace(JTI, "0123456789abcdef 0123456789"),
        format!("{good} x"),
        format!("[\"signer\",\"run\",{NOW},\"{JTI}\",\"{}\"]", crate::digest(BODY)),
    ] {
        assert_eq!(check(&forge(&who, &header(&who), &bad)), Err(Fault::Malformed), "{bad}");
    }
    let twice = header(&who).replace("{\"alg\"", "{\"alg\":\"ccreq1\",\"alg\"");
    assert_eq!(check(&forge(&who, &twice, &good)), Err(Fault::Malformed));
    let array = format!(r#"["ccreq1","ccreq+jwt","{}"]"#, who.nkey());
    assert_eq!(check(&forge(&who, &array, &good)), Err(Fault::Malformed));
    let crit = header(&who).replace("{\"alg\"", "{\"crit\":[],\"alg\"");
    assert_eq!(check(&forge(&who, &crit, &good)), Err(Fault::Malformed));
}

#[test]
fn text_that_is_not_canonical_is_refused() {
    let who = Identity::generate();
    let text = write_request(&who, TO, NOW, JTI, BODY, Terms::default());
    // 64 bytes take 86 characters, the last of which carries four bits that must be zero.
    let last = text.chars().last().unwrap();
    let twin = match last {
        'A' => 'B',
        'Q' => 'R',
        'g' => 'h',
        _ => 'x',
    };
    let mut other = text.clone();
    other.pop();
    other.push(twin);
    for bad in [
        other.as_str(),
        &format!("{text}="),
        &format!("{text}\n"),
        &format!(" {text}"),
        &format!("{text}.e30"),
        &text.replace('.', ".."),
        "",
        "..",
    ] {
        assert_eq!(check(bad), Err(Fault::Malformed), "{bad}");
    }
}

#[test]
fn a_signature_with_a_large_s_or_a_small_order_key_is_refused() {
    let who = Identity::generate();
    let text = write_request(&who, TO, NOW, JTI, BODY, Terms::default());
    let (input, signature) = text.rsplit_once('.').unwrap();
    let mut bytes = B64U.decode(signature.as_bytes()).unwrap();
    bytes[63] |= 0xe0;
    assert_eq!(check(&complete(input, &bytes)), Err(Fault::BadSignature));
    // The neutral point as a public key, with R the neutral point and S zero, verifies loosely.
    let mut neutral = [0_u8; 32];
    neutral[0] = 1;
    let key = VerifyingKeyText(neutral).nkey();
    let forged_header = format!(r#"{{"alg":"ccreq1","typ":"ccreq+jwt","kid":"{key}"}}"#);
    let input =
        format!("{}.{}", B64U.encode(forged_header.as_bytes()), B64U.encode(claims().as_bytes()));
    let signature = [neutral, [0; 32]].concat();
    assert_eq!(check(&complete(&input, &signature)), Err(Fault::BadSignature));
}

/// A public key as a user nkey, for keys that no seed makes.
struct VerifyingKeyText([u8; 32]);
impl VerifyingKeyText {
    fn nkey(&self) -> String {
        let mut raw = vec![20 << 3];
        raw.extend_from_slice(&self.0);
        let crc = raw.iter().fold(0_u16, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            })
        });
        raw.extend_from_slice(&crc.to_le_bytes());
        data_encoding::BASE32_NOPAD.encode(&raw)
    }
}

proptest! {
    #[test]
    fn no_text_panics_and_no_altered_proof_is_believed(at in 0..400_usize, with in any::<u8>()) {
        let who = Identity::generate();
        let mut text = write_request(&who, TO, NOW, JTI, BODY, Terms::default()).into_bytes();
        let at = at % text.len();
        prop_assume!(text[at] != with);
        text[at] = with;
        if let Ok(text) = std::str::from_utf8(&text) {
            prop_assert!(check(text).is_err());
        }
    }
}
