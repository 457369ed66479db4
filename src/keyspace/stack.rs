//! What uses of keys leave on the stack: ciphers and hashes copy keys and blocks there, and do not wipe all of it.

use std::hint::black_box;

use zeroize::Zeroize;

/// Words that are wiped: 32 KiB, several times what any of the algorithms takes.
const WORDS: usize = 4096;

/// Does something with keys, and wipes the part of the stack that it was done on.
pub(crate) fn wiped<R>(act: impl FnOnce() -> R) -> R {
    let done = apart(act);
    wipe();
    done
}

/// In a frame of its own, so that nothing of it stands in the frame of the caller, or so near to it that the frame
/// which wipes does not reach it.
#[inline(never)]
fn apart<R>(act: impl FnOnce() -> R) -> R {
    let room = black_box([0_u64; 16]);
    let done = act();
    black_box(&room);
    done
}

#[inline(never)]
fn wipe() {
    let mut words = [0_u64; WORDS];
    // Its writes are volatile: they are not left out, though nobody reads them.
    words.zeroize();
    black_box(&words);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// A secret that stands nowhere in memory as it is, but each byte of it inverted.
    const INVERTED: [u8; 32] = *b"thirty-two bytes of one kind: no";

    fn use_it() -> u8 {
        let secret = INVERTED.map(|byte| !black_box(byte));
        black_box([secret; 256]).iter().flatten().fold(0, |sum, byte| sum ^ byte)
    }

    /// How often the secret stands in the 64 KiB of this thread's stack below here.
    #[inline(never)]
    fn found() -> usize {
        let here = 0_u8;
        let mut below = vec![0; 64 * 1024];
        let from = (&raw const here).addr() - below.len();
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut below, from as u64).unwrap();
        let is_it = |bytes: &[u8]| bytes.iter().zip(INVERTED).all(|(byte, other)| *byte == !other);
        below.windows(INVERTED.len()).filter(|window| is_it(window)).count()
    }

    #[test]
    fn what_an_act_leaves_on_the_stack_is_wiped() {
        black_box(apart(use_it));
        assert!(found() > 0, "without wiping it is there");
        black_box(wiped(use_it));
        assert_eq!(found(), 0);
    }
}
