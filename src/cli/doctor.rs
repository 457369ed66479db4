//! `crypto-cli doctor`: what confinement this machine grants to scripts, and whether it is enough.

use policy::Policy;
use sandbox::{Confined, Layer, State, Untraced, secret_memory};
use serde_json::{Value, json};

use crate::args::{DoctorArgs, Format};
use crate::exit::{Exit, Fault};
use crate::{say, scripts};

/// A policy that grants nothing: a lane needs its limits.
const NO_POLICY: &str = "version = 1\n[service]\nname = \"doctor\"\n";

pub(crate) fn doctor(args: &DoctorArgs) -> Result<Exit, Fault> {
    let untraced = Untraced::begin()?;
    let policy = Policy::parse("doctor", NO_POLICY);
    let policy = policy.map_err(|found| Fault::new(Exit::Internal, found.to_string()))?;
    let lane = scripts::first_lane(&policy)?;
    let report = lane.report().clone();
    drop(lane);
    let verdict = report.judge(scripts::strictness(&args.sandbox));
    let confined = Confined::broker(untraced, None);
    let layers: Vec<_> = Layer::ALL.map(|layer| (layer, report.state(layer))).into();
    let own = match &confined {
        Ok(confined) => ("broker: landlock".to_owned(), confined.landlock()),
        Err(_) => ("broker: system call filter".to_owned(), State::Off(0)),
    };
    let memory = secret_memory().map_or("none", |memory| memory.kind().word());
    match args.format {
        Format::Json => {
            let one = |(name, state): (String, State)| (name, Value::String(state.to_string()));
            let scripts = layers.iter().map(|(layer, state)| one((layer.to_string(), *state)));
            let scripts: serde_json::Map<_, _> = scripts.collect();
            let problem = verdict.as_ref().err().map(ToString::to_string);
            let broker = json!({ "landlock": own.1.to_string(), "secret_memory": memory });
            say::line(
                &json!({ "schema": 1, "scripts": scripts, "broker": broker, "problem": problem })
                    .to_string(),
            )?;
        }
        Format::Text => {
            for (layer, state) in &layers {
                say::line(&format!("scripts: {layer}: {state}"))?;
            }
            say::line(&format!("{}: {}", own.0, own.1))?;
            say::line(&format!("broker: memory for keys: {memory}"))?;
        }
    }
    confined?;
    match verdict {
        Ok(()) => Ok(Exit::Done),
        Err(problem) => Err(Fault::new(Exit::Unavailable, problem.to_string())),
    }
}
