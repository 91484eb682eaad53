//! The whole grammar: what is written out, the rows of the table, and an example at every level.

use std::ffi::OsString;

use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use super::Line;
use super::table::{self, Row};

/// What a command line asks for.
#[derive(Debug)]
pub(super) enum Asked {
    /// Something that is written out.
    Line(Box<Line>),
    /// A row of the table, with what its verb and its noun were given.
    Row(&'static Row, Box<(ArgMatches, ArgMatches)>),
    /// Nothing: only the program's name was given.
    Nothing,
}

/// The command line's definition.
pub(super) fn command() -> Command {
    exemplify(table::augment(Line::command()), "")
}

/// Takes a command line apart.
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Asked, clap::Error> {
    let words: Vec<OsString> = words.into_iter().collect();
    if words.len() < 2 {
        return Ok(Asked::Nothing);
    }
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words)?;
    if let Some((row, verb, noun)) = table::find(&command, &matches) {
        return Ok(Asked::Row(row, Box::new((verb.clone(), noun.clone()))));
    }
    let line = Line::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok(Asked::Line(Box::new(line)))
}

/// Adds an example wherever there is none: to a command its own, to a verb that of its first noun.
fn exemplify(mut command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    for name in &names {
        let inner_path = format!("{path} {name}").trim_start().to_owned();
        command = command.mut_subcommand(name, |inner| exemplify(inner, &inner_path));
    }
    if command.get_after_help().is_some() {
        return command;
    }
    let own = EXAMPLES
        .iter()
        .find(|(known, _)| *known == path)
        .map(|(_, words)| format!("Example:\n  ferrule {path} {words}").trim_end().to_owned());
    let inner = || {
        let first = command.find_subcommand(names.first()?)?.get_after_help()?.to_string();
        let at = first.find("Example:")?;
        first[at..].split("\n\n").next().map(str::to_owned)
    };
    match own.or_else(inner) {
        Some(example) => command.after_help(example),
        None => command,
    }
}

/// Words after the command, for those that have no help of their own.
const EXAMPLES: &[(&str, &str)] = &[
    ("create volume", "--name v1 --size 1GiB --acl ALLOW_ANY"),
    ("create credential", "--project-name system --id ops --type rsa256pubkey key.pub"),
    ("list volumes", "-o json"),
    ("list nodes", ""),
    ("list projects", ""),
    ("list credentials", "--project-name system"),
    ("list users", ""),
    ("list connected-hosts", ""),
    ("get volume", "--name v1"),
    ("get cluster", "-o json"),
    ("get cluster-info", ""),
    ("get node", "--name server00-0"),
    ("get project", "--name default"),
    ("get credential", "--project-name system --id root"),
    ("get connected-host", "--host-nqn nqn.2014-08.org.nvmexpress:uuid:4f7c9b1e-3e2b-4d0c-9a51-3f5d5a1f2b6e"),
    ("get version", ""),
    ("get logs", "--file logs.tar.gz"),
    ("update volume", "--name v1 --size 2GiB"),
    ("create snapshot", "--name s1 --source-volume-name v1"),
    ("list snapshots", ""),
    ("list changed-blocks", "--current-snapshot-name s2 --base-snapshot-name s1 -o json"),
    ("get snapshot", "--name s1"),
    ("delete snapshot", "--name s1"),
    ("rollback volume", "--name v1 --source-snapshot-name s1"),
    ("delete volume", "--name v1"),
    ("delete credential", "--project-name system --id ops"),
    ("delete user", "--name ann"),
    ("perf", "--help"),
];

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn help_has_an_example_at_every_level() {
        fn check(command: &Command, path: &str, lacking: &mut Vec<String>) {
            let shown = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let longer = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            if !shown.contains("ferrule ") && !longer.contains("ferrule ") {
                lacking.push(path.to_owned());
            }
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                check(inner, &format!("{path} {}", inner.get_name()), lacking);
            }
        }
        let mut lacking = Vec::new();
        check(&command(), "", &mut lacking);
        assert!(lacking.is_empty(), "no example: {lacking:?}");
    }

    #[test]
    fn every_example_of_a_row_is_right() {
        for row in table::all() {
            let line = format!("ferrule {} {} {}", row.verb, row.noun, row.example);
            let words = words_of(&line);
            let asked = parse(words.into_iter().map(OsString::from));
            assert!(asked.is_ok(), "{line}: {}", asked.unwrap_err());
        }
    }

    /// Splits as a shell does, as far as examples need it.
    fn words_of(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quote = None;
        for letter in line.chars() {
            match (letter, quote) {
                (letter, Some(open)) if letter == open => quote = None,
                ('"' | '\'', None) => quote = Some(letter),
                (' ', None) => words.push(String::new()),
                (letter, _) => words.last_mut().unwrap().push(letter),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }
}
