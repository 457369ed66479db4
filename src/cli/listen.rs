//! `crypto-cli listen`: this process becomes the broker and starts the listener, which is this same
//! program in its hidden role.

use std::path::PathBuf;

use broker::{AdminSocket, Broker, Gate, Sealed, ServeError};
use client::{Connect, Login, ServerUrl, check_subject};
use listener::{Listen, ListenFault};
use sandbox::{Confined, Untraced};
use wire::admin::ADMIN_SOCKET;

use crate::args::{ListenArgs, ListenerArgs, NatsArgs};
use crate::exit::{Exit, Fault};
use crate::{files, passphrase, say, scripts};

/// The broker's part: open, confine, parse, unlock, serve.
pub(crate) fn listen(args: &ListenArgs) -> Result<Exit, Fault> {
    connection(&args.nats, "crypto-cli")?;
    check_subject(&args.subject)?;
    check_subject(&args.queue_group)?;
    let listener = arguments(args)?;
    for path in [&args.nats.nkey_seed_file, &args.nats.creds].into_iter().flatten() {
        // One that cannot be read is told of by the listener.
        if let Ok(metadata) = path.metadata() {
            files::warn_if_shown(&path.display().to_string(), &metadata);
        }
    }
    let untraced = Untraced::begin()?;
    let home = files::home(args.unlock.home.as_deref())?;
    let path = files::policy_path(args.policy.as_deref(), args.unlock.home.as_deref())?;
    let launcher = scripts::launcher(&listener, Some(&path))?;
    let policy = files::read_policy(&path)?;
    let lanes = scripts::lanes(launcher, &policy.policy, &args.sandbox)?;
    let passphrase =
        if args.sealed { None } else { Some(passphrase::unlocking(&args.unlock.passphrase)?) };
    let locked = files::hold(&home)?;
    let records = files::open_records(&home, &policy.policy)?;
    let admin = AdminSocket::open(home.path());
    let admin = admin.map_err(|error| {
        let doing = format!("cannot open the socket in `{}`", home.path().display());
        Fault::system(&doing, &error)
    })?;
    let confined = Confined::broker(untraced, Some(home.path()))?;
    scripts::mention(&confined);
    let service = policy.policy.service().to_owned();
    let opening = args.unlock.open.opening();
    let (gate, who) = match passphrase {
        Some(passphrase) => {
            let keyspace = locked.unlock(&passphrase, opening)?;
            let who = keyspace.service_nkey().to_owned();
            let broker = Broker::new(policy.policy, &policy.text, keyspace, records, lanes)?;
            (Gate::open(broker), who)
        }
        None => {
            let policy = (policy.policy, policy.text);
            let sealed = Sealed { policy, locked, opening, records, lanes };
            (Gate::sealed(sealed), "sealed".to_owned())
        }
    };
    let ready = || {
        let (subject, server) = (&args.subject, &args.nats.server);
        say::talk(&format!("crypto-cli: `{service}` ({who}) serves `{subject}` on {server}"));
    };
    let served = broker::serve(&confined, &gate, admin, ready);
    // One that cannot be removed is in nobody's way.
    let _left = std::fs::remove_file(home.file(ADMIN_SOCKET));
    match served {
        Ok(()) => Ok(Exit::Done),
        Err(ServeError::Listener { code }) => {
            Err(Fault::new(exit_of_listener(code), "the listener could not start: see above"))
        }
        Err(error @ ServeError::Keyspace) => Err(Fault::new(Exit::Unavailable, error.to_string())),
        Err(ServeError::Io(error)) => Err(Fault::system("cannot serve", &error)),
    }
}

/// The listener's part.
pub(crate) fn listener(args: &ListenerArgs) -> Result<Exit, Fault> {
    let Some(socket) = sandbox::inherited_socket() else {
        return Err(Fault::usage("this role is started by `crypto-cli listen`"));
    };
    let untraced = Untraced::begin_child()?;
    let listen = Listen {
        connect: connection(&args.nats, "crypto-cli listener")?,
        subject: args.subject.clone(),
        queue_group: args.queue_group.clone(),
        capacity: args.capacity,
    };
    match listener::run(untraced, &listen, socket.into()) {
        Ok(()) => Ok(Exit::Done),
        Err(ListenFault::Connect(fault)) => Err(fault.into()),
        Err(ListenFault::Confine(error)) => Err(error.into()),
        Err(fault @ (ListenFault::Subscribe { .. } | ListenFault::Broker(_))) => {
            Err(Fault::new(Exit::Unavailable, fault.to_string()))
        }
    }
}

/// How to reach NATS, from the arguments.
pub(crate) fn connection(args: &NatsArgs, name: &str) -> Result<Connect, Fault> {
    let login = match (&args.nkey_seed_file, &args.creds) {
        (_, Some(path)) => Login::CredsFile(path.clone()),
        (Some(path), None) => Login::NkeySeedFile(path.clone()),
        (None, None) => Login::Anonymous,
    };
    let server = ServerUrl::parse(&args.server)?;
    Ok(Connect { server, login, ca: args.ca.clone(), name: name.to_owned() })
}

/// The listener has no environment and another working folder, so paths are made whole.
fn arguments(args: &ListenArgs) -> Result<Vec<String>, Fault> {
    let mut arguments = vec![
        "listener".to_owned(),
        format!("--server={}", args.nats.server),
        format!("--subject={}", args.subject),
        format!("--queue-group={}", args.queue_group),
    ];
    let paths: [(&str, &Option<PathBuf>); 3] = [
        ("--ca", &args.nats.ca),
        ("--nkey-seed-file", &args.nats.nkey_seed_file),
        ("--creds", &args.nats.creds),
    ];
    for (flag, path) in paths {
        let Some(path) = path else { continue };
        let unusable = || Fault::usage(format!("cannot use the path `{}`", path.display()));
        let whole = std::path::absolute(path).map_err(|_| unusable())?;
        let whole = whole.to_str().ok_or_else(unusable)?;
        arguments.push(format!("{flag}={whole}"));
    }
    // The number of requests that it may hold is the broker's to say.
    arguments.push("--capacity".to_owned());
    Ok(arguments)
}

/// The listener has told what is wrong; its exit code says of what kind it is.
fn exit_of_listener(code: Option<i32>) -> Exit {
    [Exit::Usage, Exit::Locked, Exit::Unavailable]
        .into_iter()
        .find(|exit| code == Some(*exit as i32))
        .unwrap_or(Exit::Internal)
}
