//! What the kernel granted of a confinement, and whether that is enough.

use std::fmt;

/// One layer of the confinement of a process that runs scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Layer {
    /// Seccomp: three system calls.
    SystemCalls,
    /// Landlock: no file, no port, no signal to others.
    Landlock,
    /// Namespaces of its own for users, processes, network, IPC, names and mounts.
    Namespaces,
    /// A root folder with nothing in it.
    EmptyRoot,
    /// No capabilities, none to be had.
    Capabilities,
    /// No reading of the processor's clock.
    Clock,
}

impl Layer {
    /// Every layer, the one that carries the weight first.
    pub const ALL: [Layer; 6] = [
        Layer::SystemCalls,
        Layer::Landlock,
        Layer::Namespaces,
        Layer::EmptyRoot,
        Layer::Capabilities,
        Layer::Clock,
    ];
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layer::SystemCalls => "system call filter",
            Layer::Landlock => "landlock",
            Layer::Namespaces => "namespaces",
            Layer::EmptyRoot => "empty root",
            Layer::Capabilities => "no capabilities",
            Layer::Clock => "no clock",
        })
    }
}

/// How much of a layer the kernel granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All of it.
    On,
    /// What this kernel knows of it.
    Partly,
    /// Nothing, with the number of the error.
    Off(i32),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::On => f.write_str("on"),
            State::Partly => f.write_str("partly on: the kernel is older"),
            State::Off(0) => f.write_str("off"),
            State::Off(error) => {
                write!(f, "off: {}", std::io::Error::from_raw_os_error(*error))
            }
        }
    }
}

/// How much may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Seccomp, and a second layer that holds should it fail: Landlock or namespaces.
    Strict,
    /// Seccomp.
    BestEffort,
}

/// The state of every layer, as the confined process tells it before it sees a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report([State; Layer::ALL.len()]);

/// A confinement that is not enough.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotEnough(String);

impl Report {
    pub(crate) const BYTES: usize = 5 * Layer::ALL.len();

    pub(crate) fn new() -> Self {
        Self([State::Off(libc::ENOSYS); Layer::ALL.len()])
    }

    pub(crate) fn set(&mut self, layer: Layer, state: State) {
        if let Some(place) = self.0.get_mut(layer as usize) {
            *place = state;
        }
    }

    /// The state of one layer.
    #[must_use]
    pub fn state(&self, layer: Layer) -> State {
        self.0.get(layer as usize).copied().unwrap_or(State::Off(0))
    }

    /// Whether scripts may run like this. The layers that are missing all the same are
    /// [`Report::missing`].
    ///
    /// # Errors
    /// Says what is missing and what to do.
    pub fn judge(&self, strictness: Strictness) -> Result<(), NotEnough> {
        let is_off = |layer| matches!(self.state(layer), State::Off(_));
        if is_off(Layer::SystemCalls) {
            let text = "the kernel refuses the system call filter: no script can be run here";
            return Err(NotEnough(text.to_owned()));
        }
        let (landlock, namespaces) = (Layer::Landlock, Layer::Namespaces);
        if strictness == Strictness::Strict && is_off(landlock) && is_off(namespaces) {
            let (landlock, namespaces) = (self.state(landlock), self.state(namespaces));
            return Err(NotEnough(format!(
                "neither landlock ({landlock}) nor namespaces ({namespaces}) can be had: allow one of \
                 them, or accept the system call filter alone with --sandbox best-effort"
            )));
        }
        Ok(())
    }

    /// The layers that are not wholly on.
    pub fn missing(&self) -> impl Iterator<Item = (Layer, State)> {
        let layers = Layer::ALL.into_iter().map(|layer| (layer, self.state(layer)));
        layers.filter(|(_, state)| *state != State::On)
    }

    /// Five bytes for each layer: 0, 1 or 2 for on, partly, off; then the error, big-endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let one = |state: &State| {
            let (tag, error) = match state {
                State::On => (0, 0),
                State::Partly => (1, 0),
                State::Off(error) => (2, *error),
            };
            let mut bytes = vec![tag];
            bytes.extend(i32::to_be_bytes(error));
            bytes
        };
        self.0.iter().flat_map(one).collect()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut report = Self::new();
        let (states, rest) = bytes.as_chunks::<5>();
        if states.len() != Layer::ALL.len() || !rest.is_empty() {
            return None;
        }
        for (layer, [tag, error @ ..]) in Layer::ALL.into_iter().zip(states) {
            let state = match tag {
                0 => State::On,
                1 => State::Partly,
                2 => State::Off(i32::from_be_bytes(*error)),
                _ => return None,
            };
            report.set(layer, state);
        }
        Some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(off: &[Layer]) -> Report {
        let mut report = Report([State::On; Layer::ALL.len()]);
        for layer in off {
            report.set(*layer, State::Off(libc::EPERM));
        }
        report
    }

    #[test]
    fn no_configuration_runs_a_script_without_the_system_call_filter() {
        for strictness in [Strictness::Strict, Strictness::BestEffort] {
            assert!(report(&[Layer::SystemCalls]).judge(strictness).is_err());
        }
    }

    #[test]
    fn strict_wants_a_second_layer_and_best_effort_does_not() {
        let without = |layers: &[Layer]| {
            let report = report(layers);
            [Strictness::Strict, Strictness::BestEffort].map(|s| report.judge(s).is_ok())
        };
        assert_eq!(without(&[]), [true, true]);
        assert_eq!(without(&[Layer::Landlock, Layer::Clock]), [true, true]);
        assert_eq!(without(&[Layer::Namespaces, Layer::EmptyRoot]), [true, true]);
        assert_eq!(without(&[Layer::Landlock, Layer::Namespaces]), [false, true]);
    }

    #[test]
    fn a_report_arrives_as_it_was_and_no_other_bytes_do() {
        let mut sent = report(&[Layer::Clock]);
        sent.set(Layer::Landlock, State::Partly);
        assert_eq!(Report::decode(&sent.encode()), Some(sent.clone()));
        let bytes = sent.encode();
        assert_eq!(Report::decode(&bytes[1..]), None);
        assert_eq!(Report::decode(&[bytes.as_slice(), &[0]].concat()), None);
        assert_eq!(Report::decode(&[&[3], &bytes[1..]].concat()), None);
        let missing: Vec<_> = sent.missing().map(|(layer, _)| layer).collect();
        assert_eq!(missing, [Layer::Landlock, Layer::Clock]);
    }
}
