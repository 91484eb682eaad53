//! The whole grammar: what is written out, the rows of the table, and an example at every level.

use std::ffi::OsString;

use clap::{Arg, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use super::Line;
use super::settings::ClientArgs;
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
    // Before the verb they are of every command that speaks to a server; see `verb_first`.
    let root = ClientArgs::add_to(Line::command()).mut_args(|arg| arg.global(false));
    exemplify(table::augment(root), "")
}

/// Takes a command line apart.
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Asked, clap::Error> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    if words.len() < 2 {
        return Ok(Asked::Nothing);
    }
    // Who knows ClusterCockpit writes these with a dash.
    if let Some(name) = words[1].to_str().and_then(|word| word.strip_prefix('-'))
        && DASHED.contains(&name)
    {
        words[1] = name.to_owned().into();
    }
    let mut command = command();
    let matches = command.try_get_matches_from_mut(verb_first(&command, words))?;
    if let Some((row, verb, noun)) = table::find(&command, &matches) {
        return Ok(Asked::Row(row, Box::new((verb.clone(), noun.clone()))));
    }
    let line = Line::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok(Asked::Line(Box::new(line)))
}

/// Puts options that stand before the verb behind it: `ferrule -o json list volumes` is `ferrule list -o json volumes`.
///
/// Whether the verb takes them is for the verb to say, so that none is taken and ignored.
fn verb_first(command: &Command, mut words: Vec<OsString>) -> Vec<OsString> {
    let mut verb = 1;
    while let Some(width) = words.get(verb).and_then(|word| option_width(command, word.to_str()?)) {
        verb += width;
    }
    if verb < words.len() {
        words[1..=verb].rotate_right(1);
    }
    words
}

/// How many words an option of `command` has, itself and its value; none if `word` is no such option.
fn option_width(command: &Command, word: &str) -> Option<usize> {
    let (arg, has_value) = if let Some(long) = word.strip_prefix("--") {
        let name = long.split('=').next().unwrap_or_default();
        let named = |arg: &&Arg| {
            arg.get_long() == Some(name)
                || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        };
        (command.get_arguments().find(named)?, long.contains('='))
    } else {
        let mut letters = word.strip_prefix('-')?.chars();
        let letter = letters.next()?;
        let attached = letters.next().is_some();
        let arg = command.get_arguments().find(|arg| arg.get_short() == Some(letter))?;
        // Flags that are written together are for the verb's own definition.
        if attached && !arg.get_action().takes_values() {
            return None;
        }
        (arg, attached)
    };
    Some(if arg.get_action().takes_values() && !has_value { 2 } else { 1 })
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

/// Commands that are options of a program whose users shall find them here.
const DASHED: [&str; 2] = ["add-user", "jwt"];
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
    ("get logs", "--file logs.tar"),
    ("update volume", "--name v1 --size 2GiB"),
    ("create snapshot", "--name s1 --source-volume-name v1"),
    ("list snapshots", ""),
    ("list changed-blocks", "--current-snapshot-name s2 --base-snapshot-name s1 -o json"),
    ("get snapshot", "--name s1"),
    ("delete snapshot", "--name s1"),
    ("rollback volume", "--name v1 --source-snapshot-name s1"),
    ("export", "snapshot --name s1 s1.image"),
    ("import", "volume --name v1 s1.image"),
    ("delete volume", "--name v1"),
    ("delete credential", "--project-name system --id ops"),
    ("delete user", "--name ann"),
    (
        "perf",
        "--target 127.0.0.1:4420 --subnqn nqn.2014-08.org.nvmexpress:uuid:4f7c9b1e-3e2b-4d0c-9a51-3f5d5a1f2b6e --nsid 1",
    ),
];

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_is_for() {
        fn look(command: &Command, path: &str) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.contains("Arguments"), "{path}: {about:?}");
            for arg in command.get_arguments() {
                let names = arg.get_value_names().unwrap_or_default();
                let named = names.iter().all(|name| name.chars().any(|letter| letter.is_ascii_uppercase()));
                let takes = arg.get_action().takes_values() && !arg.is_positional();
                assert!(named || !takes, "{path} {arg}: {names:?}");
            }
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                look(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        look(&command(), "ferrule");
    }

    /// Every command, with the words that lead to it and its help.
    fn every_command() -> Vec<(String, String)> {
        fn gather(command: &Command, path: &str, found: &mut Vec<(String, String)>) {
            let help = [command.get_after_help(), command.get_after_long_help()];
            let help = help.into_iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            found.push((path.to_owned(), help));
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                gather(inner, &format!("{path} {}", inner.get_name()), found);
            }
        }
        let mut found = Vec::new();
        gather(&command(), "ferrule", &mut found);
        found
    }

    /// The lines of a help text that call this program, each as one line, without what is for the shell.
    fn calls(help: &str) -> Vec<String> {
        let whole = help.replace("\\\n", " ");
        let lines = whole.lines().map(str::trim).filter(|line| line.starts_with("ferrule "));
        lines.map(|line| line.split(" > ").next().unwrap_or(line).to_owned()).collect()
    }

    #[test]
    fn help_has_an_example_at_every_level_and_every_example_is_right() {
        let commands = every_command();
        assert!(commands.len() > 120, "{} commands", commands.len());
        for (path, help) in commands {
            let calls = calls(&help);
            assert!(!calls.is_empty() || help.contains(&path), "{path} has no example: {help}");
            for call in calls {
                let asked = parse(words_of(&call).into_iter().map(OsString::from));
                assert!(asked.is_ok(), "{path}: {call}: {}", asked.unwrap_err());
            }
        }
    }

    #[test]
    fn options_of_the_server_stand_before_or_after_the_verb() {
        let moved = |line: &str| {
            let words = words_of(line).into_iter().map(OsString::from).collect();
            let words = verb_first(&command(), words);
            words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        for (given, read) in [
            ("ferrule list volumes -o json", "ferrule list volumes -o json"),
            ("ferrule -o json list volumes", "ferrule list -o json volumes"),
            ("ferrule --endpoint https://a list nodes", "ferrule list --endpoint https://a nodes"),
            ("ferrule --endpoint=https://a -Jx list nodes", "ferrule list --endpoint=https://a -Jx nodes"),
            (
                "ferrule --insecure-skip-tls-verify --output-format yaml -J x get cluster",
                "ferrule get --insecure-skip-tls-verify --output-format yaml -J x cluster",
            ),
            ("ferrule --project-name p jwt ann", "ferrule jwt --project-name p ann"),
            ("ferrule --help", "ferrule --help"),
            ("ferrule --nonsense list", "ferrule --nonsense list"),
            ("ferrule -o json", "ferrule -o json"),
            ("ferrule --endpoint", "ferrule --endpoint"),
        ] {
            assert_eq!(moved(given), read);
            if given.contains("list") && !given.contains("nonsense") {
                assert!(parse(words_of(given).into_iter().map(OsString::from)).is_ok(), "{given}");
            }
        }
        // As ClusterCockpit has them.
        for line in ["ferrule -add-user ann:api:a-long-password", "ferrule -jwt ann"] {
            assert!(parse(words_of(line).into_iter().map(OsString::from)).is_ok(), "{line}");
        }
        // What a command does not take is refused, wherever it stands.
        for line in ["ferrule -J x serve", "ferrule -o json completions bash", "ferrule -o json"] {
            assert!(parse(words_of(line).into_iter().map(OsString::from)).is_err(), "{line}");
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
