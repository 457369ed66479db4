//! Makes a running process make system calls, as code that took it over would: `injector PID NUMBER A B C D...`,
//! one call for every five numbers. Prints what became of it after each: `killed SIGNAL`, `exited CODE` or
//! `lived RESULT`; then ends it. Needs the right to trace, which root has, and nobody else for processes of ours.
#![expect(unsafe_code, reason = "a debugger is made of it")]
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "a test program that panics has failed; its words are a few bytes"
)]

use std::fs;
use std::os::unix::fs::FileExt;

/// The instruction that enters the kernel.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).map(|word| word.parse().unwrap()).collect();
    let pid = i32::try_from(arguments[0]).unwrap();
    let entry = instruction(pid);
    // SAFETY: every call names the traced process, which stands still between them, and passes room
    // for what the kernel writes.
    unsafe {
        let none = std::ptr::null_mut::<libc::c_void>();
        if libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) != 0 {
            println!("refused {}", std::io::Error::last_os_error().raw_os_error().unwrap());
            return;
        }
        libc::ptrace(libc::PTRACE_INTERRUPT, pid, none, none);
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, libc::__WALL), pid);
        for call in arguments[1..].chunks_exact(5) {
            let mut registers: libc::user_regs_struct = std::mem::zeroed();
            libc::ptrace(libc::PTRACE_GETREGS, pid, none, &raw mut registers);
            registers.rip = entry;
            registers.orig_rax = u64::MAX;
            registers.rax = call[0];
            (registers.rdi, registers.rsi) = (call[1], call[2]);
            (registers.rdx, registers.r10) = (call[3], call[4]);
            (registers.r8, registers.r9) = (0, 0);
            libc::ptrace(libc::PTRACE_SETREGS, pid, none, &raw mut registers);
            libc::ptrace(libc::PTRACE_SINGLESTEP, pid, none, none);
            assert_eq!(libc::waitpid(pid, &raw mut status, libc::__WALL), pid);
            if libc::WIFSIGNALED(status) {
                println!("killed {}", libc::WTERMSIG(status));
                return;
            }
            if libc::WIFEXITED(status) {
                println!("exited {}", libc::WEXITSTATUS(status));
                return;
            }
            libc::ptrace(libc::PTRACE_GETREGS, pid, none, &raw mut registers);
            println!("lived {}", registers.rax.cast_signed());
        }
        libc::kill(pid, libc::SIGKILL);
    }
}

/// Where in the process's own code there is one.
fn instruction(pid: i32) -> u64 {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else { return 0 };
    let Ok(memory) = fs::File::open(format!("/proc/{pid}/mem")) else { return 0 };
    for line in maps.lines().filter(|line| line.contains(" r-xp ") && !line.ends_with("]")) {
        let (start, rest) = line.split_once('-').unwrap();
        let end = rest.split(' ').next().unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = (number(start), number(end));
        let mut code = vec![0; (end - start) as usize];
        if memory.read_exact_at(&mut code, start).is_err() {
            continue;
        }
        if let Some(at) = code.windows(2).position(|window| window == SYSCALL) {
            return start + at as u64;
        }
    }
    0
}
