//! `crypto-cli`: opens, connects, starts, and gets out of the way. One file per command.
#![forbid(unsafe_code)]

mod admin;
mod args;
mod ask;
mod audit;
mod check;
mod dev;
mod dev_files;
mod doctor;
mod exit;
mod files;
mod identity;
mod init;
mod key;
mod key_space;
mod listen;
mod operate;
mod outcome;
mod output;
mod passphrase;
mod policy;
mod policy_diff;
mod receipt;
mod report;
mod request;
mod run;
mod say;
mod scripts;
mod selections;

use clap::Parser;

use crate::args::{Args, AuditCommand, Command, IdentityCommand, PolicyCommand, ReceiptCommand};
use crate::exit::{Exit, Fault};

fn main() -> std::process::ExitCode {
    std::panic::set_hook(Box::new(exit::on_panic));
    let args = match Args::try_parse() {
        Ok(args) => args,
        // What was asked for: the help, or the version.
        Err(told) if !told.use_stderr() => told.exit(),
        Err(told) => {
            say::talk(told.render().to_string().trim_end());
            return Exit::Usage.into();
        }
    };
    match dispatch(args.command) {
        Ok(exit) => exit.into(),
        Err(fault) => {
            say::talk(&format!("crypto-cli: {}", fault.message));
            fault.exit.into()
        }
    }
}

fn dispatch(command: Command) -> Result<Exit, Fault> {
    match command {
        Command::Init(args) => init::init(&args),
        Command::Dev(args) => dev::dev(&args),
        Command::Listen(args) => listen::listen(&args),
        Command::Unseal(args) => admin::unseal(&args),
        Command::Listener(args) => listen::listener(&args),
        Command::Launcher(args) => scripts::serve(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Request(args) => request::request(&args),
        Command::Policy(PolicyCommand::Check(args)) => policy::check(&args),
        Command::Policy(PolicyCommand::Explain(args)) => policy::explain(&args),
        Command::Policy(PolicyCommand::Fmt(args)) => policy::fmt(&args),
        Command::Policy(PolicyCommand::Test(args)) => policy::test(&args),
        Command::Policy(PolicyCommand::Diff(args)) => policy_diff::diff(&args),
        Command::Policy(PolicyCommand::Reload(args)) => policy::reload(&args),
        Command::Audit(AuditCommand::Verify(args)) => audit::verify(&args),
        Command::Audit(AuditCommand::Show(args)) => audit::show(&args),
        Command::Receipt(ReceiptCommand::Verify(args)) => receipt::verify(&args),
        Command::Identity(IdentityCommand::New(args)) => identity::new(&args),
        Command::Identity(IdentityCommand::Show(args)) => identity::show(&args),
        Command::Identity(IdentityCommand::Proof(args)) => identity::proof(&args),
        Command::Keyspace(command) => key_space::keyspace(&command),
        Command::Key(command) => key::key(&command),
    }
}
