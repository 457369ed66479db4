//! Where scripts run: the launcher, the lanes, and what the machine grants them.

use std::path::Path;
use std::sync::Arc;

use broker::{Lanes, LanesError};
use policy::Policy;
use sandbox::{Confined, Lane, Launcher, State, Strictness};

use crate::args::{LauncherArgs, Sandbox, SandboxArgs};
use crate::exit::{Exit, Fault};
use crate::{files, say};

/// Starts the launcher: before anything secret is read, for it holds what we hold now. It can start this
/// program again with the arguments `own`, if there are any, and open the policy at this path again.
pub(crate) fn launcher(own: &[String], policy: Option<&Path>) -> Result<Arc<Launcher>, Fault> {
    let worker = files::worker_path()?;
    let worker = worker.to_str().ok_or_else(|| unusable(&worker))?.to_owned();
    let mut arguments = vec!["launcher".to_owned(), format!("--worker={worker}")];
    if let Some(path) = policy {
        let whole = std::path::absolute(path).map_err(|_| unusable(path))?;
        arguments.push(format!("--policy={}", whole.to_str().ok_or_else(|| unusable(path))?));
    }
    arguments.push("--".to_owned());
    arguments.extend_from_slice(own);
    let launcher = Launcher::start(Path::new("/proc/self/exe"), &arguments);
    launcher.map_err(|error| Fault::system("cannot start the launcher", &error))
}

fn unusable(path: &Path) -> Fault {
    Fault::usage(format!("cannot use the path `{}`", path.display()))
}

/// Starts the first lane. What the machine does not grant is said once.
pub(crate) fn lanes(
    launcher: Arc<Launcher>,
    policy: &Policy,
    sandbox: &SandboxArgs,
) -> Result<Lanes, Fault> {
    let lanes = Lanes::open(launcher, policy, strictness(sandbox)).map_err(Fault::from)?;
    for (layer, state) in lanes.report().iter().flat_map(sandbox::Report::missing) {
        say::talk(&format!("crypto-cli: sandbox: {layer}: {state}"));
    }
    Ok(lanes)
}

/// Says what is missing of the broker's own confinement.
pub(crate) fn mention(confined: &Confined) {
    if confined.landlock() != State::On {
        say::talk(&format!("crypto-cli: broker: landlock: {}", confined.landlock()));
    }
}

/// A lane, whatever this machine grants it.
pub(crate) fn first_lane(policy: &Policy) -> Result<Lane, Fault> {
    let lane = Lane::start(&launcher(&[], None)?, policy.limits().memory, false, wire::BUILD);
    lane.map_err(|error| LanesError::from(error).into())
}

pub(crate) fn strictness(sandbox: &SandboxArgs) -> Strictness {
    match sandbox.sandbox {
        Sandbox::Strict => Strictness::Strict,
        Sandbox::BestEffort => Strictness::BestEffort,
    }
}

impl From<LanesError> for Fault {
    fn from(error: LanesError) -> Self {
        Self::new(Exit::Unavailable, error.to_string())
    }
}

/// The launcher's part.
pub(crate) fn serve(args: &LauncherArgs) -> Result<Exit, Fault> {
    let Some(control) = sandbox::inherited_socket() else {
        return Err(Fault::usage("this role is started by other commands"));
    };
    sandbox::serve_launcher(&control, &args.worker, args.policy.as_deref(), &args.own)?;
    Ok(Exit::Done)
}
