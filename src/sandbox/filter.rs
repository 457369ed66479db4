//! Filters of system calls. They are data, in `policy/sandbox/`, which says how a line reads.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::{sys, syscalls};

/// A role's filter, compiled. Installing it is for good.
pub(crate) struct Filter(Vec<BpfProgram>);

/// Why a filter's text is none: the file, its line, and what is wrong there.
#[derive(Debug, thiserror::Error)]
#[error("`policy/sandbox/{file}` line {line}: {what}")]
pub struct FilterError {
    file: &'static str,
    line: usize,
    what: String,
}

/// The filters, by the name of their file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Script,
    Zygote,
    Reaper,
    Broker,
    Listener,
}

impl Of {
    #[cfg(test)]
    pub(crate) const ALL: [Of; 5] = [Of::Script, Of::Zygote, Of::Reaper, Of::Broker, Of::Listener];

    /// Its files: the one that is named like it, and what it shares with others.
    fn files(self) -> Vec<(&'static str, &'static str)> {
        macro_rules! file {
            ($name:literal) => {
                ($name, include_str!(concat!("../../policy/sandbox/", $name)))
            };
        }
        match self {
            Of::Script => vec![file!("script.filter")],
            Of::Zygote => vec![file!("zygote.filter")],
            Of::Reaper => vec![file!("reaper.filter")],
            Of::Broker => vec![file!("broker.filter"), file!("common.filter")],
            Of::Listener => vec![file!("listener.filter"), file!("common.filter")],
        }
    }
}

impl Filter {
    /// Compiles a role's filter. Done before a process is confined, for it allocates.
    pub(crate) fn of(role: Of) -> Result<Self, FilterError> {
        Lines::read(&role.files()).and_then(Lines::compile)
    }

    /// Binds this thread, and those it starts, to it.
    pub(crate) fn install(&self) -> io::Result<()> {
        self.0.iter().try_for_each(sys::install_filter)
    }
}

/// A filter's text, read.
struct Lines {
    file: &'static str,
    otherwise: SeccompAction,
    allowed: BTreeMap<i64, Vec<SeccompRule>>,
    /// Calls that are answered as if the kernel did not have them.
    missing: BTreeMap<i64, Vec<SeccompRule>>,
}

impl Lines {
    fn read(files: &[(&'static str, &str)]) -> Result<Self, FilterError> {
        let (first, _) = files.first().copied().unwrap_or_default();
        let mut otherwise = None;
        let mut lines = Self {
            file: first,
            otherwise: SeccompAction::KillProcess,
            allowed: BTreeMap::new(),
            missing: BTreeMap::new(),
        };
        for (file, text) in files {
            for (index, line) in text.lines().enumerate() {
                let wrong = |what: String| FilterError { file, line: index + 1, what };
                lines.read_line(line.trim(), &mut otherwise).map_err(wrong)?;
            }
        }
        let missing =
            || FilterError { file: first, line: 1, what: "no line `otherwise`".to_owned() };
        lines.otherwise = otherwise.ok_or_else(missing)?;
        Ok(lines)
    }

    fn read_line(
        &mut self,
        line: &str,
        otherwise: &mut Option<SeccompAction>,
    ) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if let Some(action) = line.strip_prefix("otherwise ") {
            *otherwise = Some(match action.trim() {
                "kill" => SeccompAction::KillProcess,
                "refuse" => SeccompAction::Errno(libc::EPERM.unsigned_abs()),
                _ => return Err("write `otherwise kill` or `otherwise refuse`".to_owned()),
            });
            return Ok(());
        }
        let (rule, why) = line.split_once('#').unwrap_or((line, ""));
        if why.trim().len() < 5 {
            return Err("a rule needs a reason after `#`".to_owned());
        }
        self.add(rule)
    }

    fn add(&mut self, rule: &str) -> Result<(), String> {
        let mut words = rule.split_whitespace();
        let mut name = words.next().unwrap_or_default();
        let is_missing = name == "missing";
        if is_missing {
            name = words.next().unwrap_or_default();
        }
        let number =
            syscalls::number(name).ok_or_else(|| format!("no system call `{name}` is known"))?;
        let conditions = conditions(&mut words)?;
        // The missing are allowed by the first filter and answered by the second.
        let was_there = self.allowed.contains_key(&number);
        let rules = self.allowed.entry(number).or_default();
        if conditions.is_empty() {
            if was_there {
                return Err(format!("`{name}` has a rule without conditions beside others"));
            }
        } else if was_there && rules.is_empty() {
            return Err(format!("`{name}` has a rule without conditions beside others"));
        } else {
            rules.push(SeccompRule::new(conditions).map_err(|error| error.to_string())?);
        }
        if is_missing {
            self.missing.insert(number, Vec::new());
        }
        Ok(())
    }

    fn compile(self) -> Result<Filter, FilterError> {
        let file = self.file;
        let wrong = |what: String| FilterError { file, line: 1, what };
        let compile = |rules, otherwise, matched| {
            SeccompFilter::new(rules, otherwise, matched, ARCHITECTURE)
                .and_then(BpfProgram::try_from)
                .map_err(|error| wrong(error.to_string()))
        };
        let mut programs = Vec::new();
        if !self.missing.is_empty() {
            let no_such_call = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
            programs.push(compile(self.missing, SeccompAction::Allow, no_such_call)?);
        }
        programs.push(compile(self.allowed, self.otherwise, SeccompAction::Allow)?);
        Ok(Filter(programs))
    }
}

const ARCHITECTURE: TargetArch = TargetArch::x86_64;

/// `long arg1 == 0`, `fd == 0`, `arg2 & 4 == 0`, one after the other.
fn conditions<'t>(
    words: &mut impl Iterator<Item = &'t str>,
) -> Result<Vec<SeccompCondition>, String> {
    let mut conditions = Vec::new();
    while let Some(mut word) = words.next() {
        let length = if word == "long" {
            word = words.next().unwrap_or_default();
            SeccompCmpArgLen::Qword
        } else {
            SeccompCmpArgLen::Dword
        };
        let index = ["arg0", "arg1", "arg2", "arg3", "arg4", "arg5"];
        let index = index.iter().position(|name| *name == if word == "fd" { "arg0" } else { word });
        let index = index.and_then(|index| u8::try_from(index).ok());
        let index = index.ok_or_else(|| format!("`{word}` is no argument"))?;
        let operator = match words.next().unwrap_or_default() {
            "==" => SeccompCmpOp::Eq,
            "<=" => SeccompCmpOp::Le,
            "&" => {
                let mask = number(words.next())?;
                if words.next() != Some("==") {
                    return Err("after `& MASK` comes `==`".to_owned());
                }
                SeccompCmpOp::MaskedEq(mask)
            }
            other => return Err(format!("`{other}` is no comparison")),
        };
        let value = number(words.next())?;
        let condition = SeccompCondition::new(index, length, operator, value);
        conditions.push(condition.map_err(|error| error.to_string())?);
    }
    Ok(conditions)
}

fn number(word: Option<&str>) -> Result<u64, String> {
    let word = word.unwrap_or_default();
    let parsed = match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| format!("`{word}` is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let read = Lines::read(&[("t.filter", text)]).and_then(Lines::compile);
        read.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn every_rule_of_every_filter_has_a_reason_and_compiles() {
        for role in Of::ALL {
            for (file, text) in role.files() {
                let rules = text.lines().filter(|l| {
                    !l.trim().is_empty() && !l.starts_with('#') && !l.starts_with("otherwise")
                });
                for rule in rules {
                    let reason = rule.split_once('#').map(|(_, why)| why.trim());
                    assert!(reason.is_some_and(|why| why.len() >= 5), "{file}: {rule}");
                }
            }
            assert!(Filter::of(role).is_ok(), "{:?}", Filter::of(role).err());
        }
    }

    #[test]
    fn a_rule_without_a_reason_is_refused() {
        let file = "`policy/sandbox/t.filter`";
        let no_reason = format!("{file} line 2: a rule needs a reason after `#`");
        assert_eq!(refusal("otherwise kill\nread fd == 0\n"), no_reason);
        assert_eq!(refusal("otherwise kill\nread fd == 0 # x\n"), no_reason);
        assert_eq!(refusal("read # the reason\n"), format!("{file} line 1: no line `otherwise`"));
        for (rule, what) in [
            ("reed", "no system call `reed` is known"),
            ("read fd = 0", "`=` is no comparison"),
            ("read arg7 == 0", "`arg7` is no argument"),
            ("read fd == zero", "`zero` is no number"),
            ("read fd & 4", "after `& MASK` comes `==`"),
            ("otherwise allow", "write `otherwise kill` or `otherwise refuse`"),
        ] {
            let text = format!("otherwise kill\n{rule}  # the reason\n");
            let text = if rule.starts_with("otherwise") { rule } else { &text };
            assert!(refusal(text).ends_with(what), "{rule}: {}", refusal(text));
        }
        assert_eq!(refusal("otherwise kill\nread fd == 0 # one of\nread fd == 1 # the two\n"), "");
        let mixed = "otherwise kill\nread fd == 0 # one of them\nread # the rest\n";
        assert!(refusal(mixed).ends_with("a rule without conditions beside others"));
    }

    /// How a process ends that is bound to this filter and to nothing else, and makes one call.
    #[expect(unsafe_code, reason = "a process is forked to be killed")]
    fn fate(filter: &Filter, number: i64, first: u64) -> i32 {
        let mut status = 0;
        // SAFETY: the child, which has this thread alone, allocates nothing and takes no lock: it
        // makes system calls and ends. The parent waits for this child.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                if filter.install().is_ok() {
                    libc::syscall(number, first, 0_u64, 0_u64, 0_u64);
                }
                libc::syscall(libc::SYS_exit_group, 0);
            }
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        }
        if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 }
    }

    #[test]
    fn the_filter_of_scripts_alone_kills_all_but_its_three_calls() {
        let filter = Filter::of(Of::Script).unwrap();
        let survivors: Vec<i64> =
            (0..=600).filter(|number| fate(&filter, *number, 0) != libc::SIGSYS).collect();
        // Two that the kernel's probes put into a process pass any filter of a new kernel.
        let expected = [libc::SYS_read, libc::SYS_write, libc::SYS_exit_group];
        assert_eq!(survivors.iter().filter(|n| ![335, 336].contains(*n)).count(), 3);
        assert!(expected.iter().all(|number| survivors.contains(number)), "{survivors:?}");
        for number in [libc::SYS_read, libc::SYS_write] {
            assert_eq!(fate(&filter, number, 1), libc::SIGSYS, "{number}");
        }
    }
}
