//! Mistakes that an operator can make, and that they cost nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::*;

const UNTIDY: &str = "version=1\n[service]\nname=\"s\"\n";

fn policy_fmt(path: &std::path::Path) -> (i32, String, String) {
    outcome(&cli().args(["policy", "fmt"]).arg(path).output().unwrap())
}

#[test]
fn a_policy_is_laid_out_in_its_place_and_no_other_file_is_touched() {
    let scratch = Scratch::new();
    let (policy, link) = (scratch.write("policy.toml", UNTIDY), scratch.path("link.toml"));
    let beside = scratch.write("policy.toml.new", "a draft of somebody");
    std::os::unix::fs::symlink(&policy, &link).unwrap();
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o640)).unwrap();
    // Root formats what belongs to the service's user.
    let owner = if is_root() { 65534 } else { fs::metadata(&policy).unwrap().uid() };
    std::os::unix::fs::chown(&policy, Some(owner), None).unwrap();
    assert_eq!(policy_fmt(&link), (0, String::new(), String::new()));
    assert!(fs::read_to_string(&policy).unwrap().starts_with("version = 1\n"));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "the link is still one");
    let after = fs::metadata(&policy).unwrap();
    assert_eq!((after.uid(), after.mode() & 0o777), (owner, 0o640));
    assert_eq!(fs::read_to_string(&beside).unwrap(), "a draft of somebody");
    assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 3);
}
