//! The `ferrule` binary: the server, and the command line of its REST interface.

mod auth;
mod cli;
mod config_file;
mod directory;
mod drives;
mod events;
mod image;
mod issuers;
mod metadata;
mod plane;
mod rest;
mod schedule;
mod serve;
mod size;
mod view;
mod web;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os())
}
