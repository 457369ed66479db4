//! Namespaces of its own, and a root folder with nothing in it.

use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount,
};
use rustix::process::{chdir, pivot_root};
use rustix::thread::UnshareFlags;

use crate::report::{Layer, Report, State};
use crate::sys;

/// Folders of which any system has one; an empty one is put on top of it.
const PLACES: [&str; 5] = ["/tmp", "/proc", "/dev", "/sys", "/run"];

/// Enters namespaces and empties the root, as far as the kernel grants it. Whether the next child of
/// this process will be the first of a namespace for processes.
pub(crate) fn leave(report: &mut Report) -> bool {
    let others = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    let left = sys::leave_namespaces(UnshareFlags::NEWUSER | others)
        // Where users have no namespaces, root may still enter the others.
        .or_else(|refusal| sys::leave_namespaces(others).map_err(|_| refusal));
    if let Err(error) = left {
        let number = error.raw_os_error().unwrap_or(0);
        report.set(Layer::Namespaces, State::Off(number));
        report.set(Layer::EmptyRoot, State::Off(number));
        return false;
    }
    report.set(Layer::Namespaces, State::On);
    report.set(
        Layer::EmptyRoot,
        match empty_root() {
            Ok(()) => State::On,
            Err(error) => State::Off(error.raw_os_error()),
        },
    );
    true
}

fn empty_root() -> Result<(), Errno> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = Some(c"mode=0555,size=4k,nr_inodes=2");
    let mounted =
        PLACES.iter().find(|place| mount("none", **place, "tmpfs", flags, options).is_ok());
    let place = mounted.ok_or(Errno::NOENT)?;
    chdir(*place)?;
    // The old root is put over the new one, and taken away from there.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    mount_remount("/", flags | MountFlags::RDONLY | MountFlags::BIND, c"")
}
