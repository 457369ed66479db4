//! Stands before the C library of a program that is started with it as `LD_PRELOAD`: what is put on disk is
//! written down, and the clock is ahead.
#![expect(unsafe_code, reason = "it takes the place of functions of C")]

use std::io::Write;

/// A file that is told the inode of every file that is synced; where a confined process can reach it.
const SYNCED: &str = "PRELOADED_SYNCED";
/// Seconds that the clock is ahead.
const AHEAD: &str = "PRELOADED_AHEAD";

#[unsafe(no_mangle)]
extern "C" fn fsync(file: libc::c_int) -> libc::c_int {
    tell(file);
    // SAFETY: the call takes a number, and says so if it is no descriptor.
    if unsafe { libc::syscall(libc::SYS_fsync, file) } == 0 { 0 } else { -1 }
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: libc::c_int) -> libc::c_int {
    tell(file);
    // SAFETY: as above.
    if unsafe { libc::syscall(libc::SYS_fdatasync, file) } == 0 { 0 } else { -1 }
}

/// # Safety
/// As clock_gettime(2) demands: there is room for a `timespec` at `time`.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    // SAFETY: the caller's promise is the kernel's demand.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    let ahead = std::env::var(AHEAD).ok().and_then(|text| text.parse::<libc::time_t>().ok());
    if result != 0 {
        return -1;
    }
    if let (libc::CLOCK_REALTIME, Some(ahead)) = (clock, ahead) {
        // SAFETY: the kernel has just written there.
        unsafe { (*time).tv_sec += ahead };
    }
    0
}

fn tell(file: libc::c_int) {
    let Ok(path) = std::env::var(SYNCED) else { return };
    // SAFETY: a structure of numbers, for all of which zero is a value.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes to a structure that is ours.
    if unsafe { libc::fstat(file, &raw mut status) } == 0
        && let Ok(mut told) = std::fs::OpenOptions::new().append(true).open(path)
    {
        let _lost = told.write_all(format!("{}\n", status.st_ino).as_bytes());
    }
}
