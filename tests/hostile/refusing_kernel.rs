//! Runs a program on a kernel that refuses some system calls: `refusing_kernel NAME... -- PROGRAM ARGUMENT...`.
#![expect(unsafe_code, reason = "a filter is installed by hand")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test program that panics has failed")]

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let refused: Vec<String> = arguments.by_ref().take_while(|word| word != "--").collect();
    let numbers = refused.iter().map(|name| match name.as_str() {
        "unshare" => libc::SYS_unshare,
        "landlock" => libc::SYS_landlock_create_ruleset,
        "seccomp" => libc::SYS_seccomp,
        "close_range" => libc::SYS_close_range,
        other => panic!("{other}"),
    });
    let rules: BTreeMap<i64, _> = numbers.map(|number| (number, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, TargetArch::x86_64);
    let program = BpfProgram::try_from(filter.unwrap()).unwrap();
    let program = libc::sock_fprog {
        len: program.len().try_into().unwrap(),
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: both calls read their arguments, which live until they return, and keep nothing.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        // By the old way in, so that the new one can be refused.
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
    let program = arguments.next().unwrap();
    panic!("{}", std::process::Command::new(program).args(arguments).exec());
}
