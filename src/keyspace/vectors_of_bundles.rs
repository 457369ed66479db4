//! `tests/vectors/bundles`: made by another program from the specification alone. The good ones open for ever, the
//! bad ones never.

use std::collections::BTreeMap;
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};

use crate::age::Key;
use crate::header::CopyFrom;
use crate::secret::{Passphrase, Secret};
use crate::{Importing, KeyspaceError, Unlocked};

#[test]
fn every_bundle_of_the_vectors_opens_or_is_refused_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/bundles");
    let (mut good, mut bad) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let (text, shown) = (std::fs::read_to_string(&path).unwrap(), path.display());
        let (head, body) = text.split_once("\n\n").unwrap();
        let head: BTreeMap<_, _> =
            head.lines().map(|line| line.split_once(": ").unwrap()).collect();
        let bundle = BASE64.decode(body.replace('\n', "").as_bytes()).unwrap();
        let keyspace = Unlocked::ephemeral(1).unwrap();
        let secret = head.get("secret").map(|hex| {
            let bytes = HEXLOWER.decode(hex.as_bytes()).unwrap();
            let secret: Result<Secret<32>, KeyspaceError> =
                Secret::try_fill(|s| s.copy_from(&bytes));
            secret.unwrap()
        });
        let passphrase = head
            .get("passphrase")
            .map(|passphrase| Passphrase::new(passphrase.as_bytes().to_vec()).unwrap());
        let key = match (&secret, &passphrase) {
            (Some(secret), None) => Key::Own(secret),
            (None, Some(passphrase)) => Key::Passphrase(passphrase),
            (Some(_), Some(_)) | (None, None) => panic!("{shown}: with what?"),
        };
        let operator = keyspace.as_operator();
        let mut source = std::io::Cursor::new(&bundle);
        let done = operator.import_with(&mut source, &key, &Importing::default(), |_| {});
        let found = operator.verify(|_, _| {}).unwrap();
        match (head["expect"], done) {
            ("opens", Ok(_)) => {
                good += 1;
                let counts = [found.spaces, found.keys].map(|count| count.to_string());
                assert_eq!(counts, [head["spaces"], head["keys"]], "{shown}");
            }
            ("refused", Err(error)) => {
                bad += 1;
                assert!(
                    matches!(error, KeyspaceError::BadBundle(_) | KeyspaceError::NotForUs),
                    "{shown}: {error}"
                );
                assert_eq!((found.spaces, found.keys), (0, 0), "{shown}");
            }
            (expected, done) => panic!("{shown}: {expected}, and {done:?}: {}", head["why"]),
        }
    }
    assert!(good >= 6 && bad >= 3 * good, "{good} {bad}");
}
