//! Measures a server against the bounds of the machine it runs on, in the same run, and prints the table.
//!
//! Everything stays on the loopback and on files in the build folder. The server has one reactor on one CPU, the load
//! runs on another. Of each row ours and its bound are measured in turn, round after round; the table has the medians.

mod bound;
mod compressed;
mod machine;
mod options;
mod plot;
mod pool;
mod raw;
mod reactors;
mod rows;
mod snapshots;
mod table;
mod target;

use std::process::ExitCode;

use options::Options;
use rows::{Bench, ROWS};
use table::Measured;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let before = machine::describe();
    println!("{before}\n");
    let bench = Bench::start(&options);
    let mut measured: Vec<Measured> = Vec::new();
    let rows = [ROWS, reactors::ROWS, compressed::ROWS, snapshots::ROWS].into_iter().flatten();
    for row in rows.filter(|row| options.wants(row.what)) {
        let rounds = if row.once { 1 } else { options.rounds };
        let mut all = Measured::new(row);
        let mut lines = Vec::new();
        for _ in 0..rounds {
            let noted = |nanos| lines.push(nanos);
            all.add(if row.once {
                // Takes its rounds by itself.
                lines.extend(machine::line_nanos(options.cpus()));
                (row.measure)(&bench)
            } else {
                machine::settled(options.cpus(), || (row.measure)(&bench), noted)
            });
        }
        lines.extend(machine::line_nanos(options.cpus()).filter(|_| row.once));
        all.note_lines(lines);
        // As soon as it is known: the whole takes minutes.
        eprintln!("{}", all.line());
        measured.push(all);
    }
    let report = format!("{before}\n\n{}\n{}", table::render(&measured, &options), machine::load());
    println!("{report}");
    let mut good = true;
    if let Some(path) = &options.out {
        good &= write(path, &report);
    }
    if let Some(path) = &options.plot {
        good &= write(path, &plot::draw(&bench, options.rounds, &before));
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write(path: &std::path::Path, text: &str) -> bool {
    std::fs::write(path, text).inspect_err(|error| eprintln!("{}: {error}", path.display())).is_ok()
}
