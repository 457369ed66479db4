//! A worker whose scripts' processes make the system calls that they are told to, for the tests of the
//! sandbox: confined and forked by the very code of the real one, and then the worst that could have
//! become of it. The zygote itself is probed when a file `probe` lies beside this program.
#![expect(unsafe_code, reason = "the point of it")]
#![expect(clippy::unwrap_used, reason = "a probe that panics has failed")]

use std::arch::asm;
use std::io::{Read, Write};

use sandbox::{Zygote, exit_now, inherited_socket};

/// How to make a call: one byte, and a number with six arguments, eight bytes each.
const PROBE_BYTES: usize = 1 + 7 * 8;

fn main() {
    let probe = std::env::current_exe().unwrap().with_file_name("probe");
    let probe = std::fs::read(probe).ok();
    let control = inherited_socket().unwrap();
    let memory = std::env::args().nth(1).unwrap().parse().unwrap();
    let zygote = Zygote::confine(control, memory);
    if let Some(probe) = probe {
        let result = perform(&probe.try_into().unwrap());
        // It goes on as a zygote would, so the test sees that it lived.
        if result == i64::MIN {
            exit_now(1);
        }
    }
    let mut process = zygote.fork_for_each_script(wire::BUILD);
    loop {
        let mut probe = [0; PROBE_BYTES];
        if process.socket.read_exact(&mut probe).is_err() {
            exit_now(0);
        }
        let result = perform(&probe);
        process.socket.write_all(&result.to_le_bytes()).unwrap_or_else(|_| exit_now(0));
    }
}

fn perform(probe: &[u8; PROBE_BYTES]) -> i64 {
    let (mode, words) = probe.split_first().unwrap();
    let (words, _) = words.as_chunks::<8>();
    let [number, a, b, c, d, e, f] =
        <[[u8; 8]; 7]>::try_from(words).unwrap().map(u64::from_le_bytes);
    let mut result: u64;
    // SAFETY: none is needed: whatever becomes of this process is what the test is about. What the
    // kernel changes is told to the compiler.
    unsafe {
        match mode {
            0 => asm!(
                "syscall",
                inlateout("rax") number => result,
                in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
                lateout("rcx") _, lateout("r11") _,
            ),
            // The 32-bit door: rbx is the compiler's own, so it is put there by hand.
            1 => asm!(
                "push rbx", "xor ebx, ebx", "int 0x80", "pop rbx",
                inlateout("rax") number => result,
                in("rcx") b, in("rdx") c, in("rsi") d, in("rdi") e,
            ),
            2 => asm!("rdtsc", out("rax") result, out("rdx") _),
            _ => exit_now(2),
        }
    }
    result.cast_signed()
}
