//! Everything through the two executables and a real nats-server, as an outsider meets it.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test that panics has failed, and says where"
)]

mod accounts;
mod again;
mod agree;
mod attacks;
mod audit;
mod bundles;
mod canary;
mod check;
mod commands;
mod connect;
mod crash;
mod deadlines;
mod degraded;
mod dev;
mod documents;
mod drain;
mod durable;
mod elsewhere;
mod escape;
mod explain;
mod export;
mod homes;
mod identity;
mod impostors;
mod interrupted;
mod intruder;
mod isolation;
mod json;
mod kept;
mod keys;
mod killed;
mod large;
mod limits;
mod losses;
mod marker;
mod mistakes;
mod operator;
mod own_keys;
mod payloads;
mod policies;
mod processes;
mod proofs;
mod rates;
mod reports;
mod rotated;
mod schema;
mod seed;
mod seized;
mod service;
mod shares;
mod stage;
mod support;
mod synced;
mod takeover;
mod terminal;
mod transactions;
mod untraced;
mod upsets;
mod waiting;
