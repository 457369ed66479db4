//! Reading a policy: any text is a policy or has a diagnostic with a place, and deciding never fails.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::{Act, Facts, Policy, Target};
use wire::{CallName, KeyPath, Name, Touches};

fuzz_target!(|text: &str| {
    match Policy::parse("p.toml", text) {
        Err(found) => {
            assert!(!found.found().is_empty());
            assert!(found.found().iter().all(|one| one.line >= 1 && one.column >= 1));
        }
        Ok(policy) => {
            let laid_out = policy::formatted(text).expect("a policy is TOML");
            assert_eq!(policy::formatted(&laid_out).as_deref(), Ok(&*laid_out));
            let again =
                || Policy::parse("p.toml", &laid_out).expect("laid out, it is a policy still");
            // To compare every two patterns takes its time, where there are hundreds.
            if text.matches('/').count() < 100 {
                assert_eq!(policy.changes_to(&again(), 0), []);
            }
            let name = || Name::parse("a").unwrap();
            for caller in policy.callers(0) {
                assert!(policy.limits_for(&caller).memory <= policy.limits().memory);
                for call in CallName::ALL {
                    let target = match call.touches() {
                        Touches::Nothing => Target::Nothing,
                        Touches::Space | Touches::WholeSpace => Target::Space(name()),
                        Touches::Key => Target::Key(KeyPath { space: name(), key: name() }),
                    };
                    let _decision =
                        policy.decide(&caller, Act { call: *call, target }, &Facts::default());
                }
            }
            assert_eq!(again().without_lines(), policy.without_lines());
        }
    }
});
