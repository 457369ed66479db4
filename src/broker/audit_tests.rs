use super::*;

struct Log {
    folder: tempfile::TempDir,
    service: nkeys::KeyPair,
}

impl Log {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), service: nkeys::KeyPair::new_server() }
    }

    fn sign(&self) -> impl Fn(&[u8]) -> [u8; 64] {
        |bytes| self.service.sign(bytes).unwrap().try_into().unwrap()
    }

    fn open(&self) -> Audit {
        let audit = Audit::open(self.folder.path(), AuditTerms::default()).unwrap();
        audit.find_end(&self.service.public_key()).unwrap();
        audit.begin(&self.service.public_key(), &self.sign()).unwrap();
        audit
    }

    fn record(&self, audit: &Audit, rule: &str) -> Result<Option<LogPlace>, AuditError> {
        let entry = Entry::loaded(rule);
        audit.record(&entry, &self.service.public_key(), &self.sign())
    }

    fn length(&self) -> u64 {
        self.folder.path().join(AUDIT_LOG).metadata().unwrap().len()
    }
}

/// A device that takes every byte and can put none of it on a disk stands for a disk that fails.
#[test]
fn a_disk_that_cannot_say_that_it_has_the_lines_stops_everything() {
    let log = Log::new();
    let audit = log.open();
    audit.sink().unwrap().file = Some(OpenOptions::new().append(true).open("/dev/null").unwrap());
    log.record(&audit, "p").unwrap();
    assert!(audit.sync().is_err());
    assert!(log.record(&audit, "p").is_err(), "nobody knows what the disk has");
    assert!(audit.mark(&log.sign()).is_err());
    // A disk that has failed once may say the next time that all is well.
    audit.sink().unwrap().file = Some(append_to(&log.folder.path().join(AUDIT_LOG)).unwrap());
    assert!(audit.sync().is_err() && audit.mark(&log.sign()).is_err());
    assert!(log.record(&audit, "p").is_err());
}

#[test]
fn what_the_disk_has_is_not_put_there_again() {
    let log = Log::new();
    let audit = log.open();
    audit.sink().unwrap().file = Some(OpenOptions::new().append(true).open("/dev/null").unwrap());
    assert!(audit.sync().is_ok());
}

#[test]
fn what_waits_for_its_record_waits_for_the_disk() {
    let log = Log::new();
    let audit = log.open();
    audit.sink().unwrap().file = Some(OpenOptions::new().append(true).open("/dev/null").unwrap());
    let mut entry = Entry::loaded("p");
    entry.is_awaited = true;
    assert!(audit.record(&entry, &log.service.public_key(), &log.sign()).is_err());
}

#[test]
fn a_line_that_lacks_only_its_end_is_counted_with_it() {
    let log = Log::new();
    let audit = log.open();
    log.record(&audit, "p").unwrap();
    drop(audit);
    let length = log.length();
    append_to(&log.folder.path().join(AUDIT_LOG)).unwrap().set_len(length - 1).unwrap();
    let audit = Audit::open(log.folder.path(), AuditTerms::default());
    let audit = audit.unwrap();
    audit.find_end(&log.service.public_key()).unwrap();
    assert_eq!(log.length(), length);
    assert_eq!(audit.sink().unwrap().bytes, length);
}

#[test]
fn a_line_over_its_bound_is_not_written() {
    let log = Log::new();
    let audit = log.open();
    let before = log.length();
    assert!(log.record(&audit, &"x".repeat(MAX_LINE_BYTES)).is_err());
    assert_eq!(log.length(), before);
    let place = log.record(&audit, "p").unwrap().unwrap();
    assert_eq!((place.seq, audit.end().unwrap().1), (2, place));
}
