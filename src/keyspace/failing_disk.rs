//! A disk in memory that fails, or of which the power is cut, at one call of the storage.

use std::sync::{Arc, Mutex};

use redb::StorageBackend;

/// What happens at the call whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// The disk is full.
    Full,
    /// The disk gives an error.
    Broken,
    /// Half of what was to be written is, then an error.
    Short,
    /// The power goes: of what was written since the last sync, what the number says is on disk.
    Power(u64),
}

pub(crate) const FAULTS: [Fault; 6] =
    [Fault::Full, Fault::Broken, Fault::Short, Fault::Power(0), Fault::Power(1), Fault::Power(7)];

/// A disk in memory, of which the writes since the last sync are known.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) bytes: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
    /// Calls until the fault; `None` when there is none.
    pub(crate) left: Option<(u64, Fault)>,
    is_dead: bool,
    pub(crate) calls: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Backend(pub(crate) Arc<Mutex<Disk>>);

impl Disk {
    /// Whether this call fails, and how.
    fn next(&mut self) -> Result<(), Fault> {
        self.calls += 1;
        if self.is_dead {
            return Err(Fault::Broken);
        }
        match &mut self.left {
            Some((0, fault)) => {
                let fault = *fault;
                self.is_dead = matches!(fault, Fault::Power(_));
                if !self.is_dead {
                    self.left = None;
                }
                Err(fault)
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn put(bytes: &mut [u8], at: usize, data: &[u8]) {
        bytes[at..at + data.len()].copy_from_slice(data);
    }

    /// What is on disk after the power went.
    pub(crate) fn left_over(&self) -> Vec<u8> {
        let Some((_, Fault::Power(seed))) = self.left else { return self.bytes.clone() };
        let mut bytes = self.synced.clone();
        bytes.resize(self.bytes.len().max(bytes.len()), 0);
        let mut state = seed;
        for (at, data) in &self.pending {
            // Some arrive and some do not, in no order that matters to them; with 0 none does.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
            if state >> 63 == 1 {
                Self::put(&mut bytes, *at, data);
            }
        }
        bytes
    }
}

fn error(fault: Fault) -> std::io::Error {
    // ENOSPC and EIO.
    std::io::Error::from_raw_os_error(if fault == Fault::Full { 28 } else { 5 })
}

fn offset(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, at: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let mut disk = self.0.lock().unwrap();
        disk.next().map_err(error)?;
        out.copy_from_slice(&disk.bytes[offset(at)..offset(at) + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        let mut disk = self.0.lock().unwrap();
        disk.next().map_err(error)?;
        disk.bytes.resize(offset(len), 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        let mut disk = self.0.lock().unwrap();
        disk.next().map_err(error)?;
        disk.synced = disk.bytes.clone();
        disk.pending.clear();
        Ok(())
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<(), std::io::Error> {
        let mut disk = self.0.lock().unwrap();
        let turn = disk.next();
        let data = match turn {
            Ok(()) => data,
            Err(Fault::Short) => &data[..data.len() / 2],
            Err(fault) => return Err(error(fault)),
        };
        let Disk { bytes, pending, .. } = &mut *disk;
        Disk::put(bytes, offset(at), data);
        pending.push((offset(at), data.to_vec()));
        turn.map_err(error)
    }
}

pub(crate) fn disk(bytes: &[u8]) -> Backend {
    let (bytes, synced) = (bytes.to_vec(), bytes.to_vec());
    Backend(Arc::new(Mutex::new(Disk { bytes, synced, ..Disk::default() })))
}

pub(crate) fn was_hit(disk: &Backend, fault: Fault) -> bool {
    let disk = disk.0.lock().unwrap();
    if matches!(fault, Fault::Power(_)) { disk.is_dead } else { disk.left.is_none() }
}
