//! Configuration files: YAML with the keys of the command line, read through the same parser.
//!
//! `key: value` becomes `--key=value`, a list repeats the key, `true` sets a flag. So a file can say what the command
//! line can say, wrong values get the same messages, and the command line wins.

use std::path::Path;

use clap::error::ErrorKind;
use clap::{Args, Command, CommandFactory as _, FromArgMatches as _, Parser};
use serde_norway::Value;

/// Reads `path` as arguments of type `A`.
pub(crate) fn read<A: Args>(path: &Path) -> Result<A, clap::Error> {
    let wrong = |message: String| {
        Command::new("ferrule").error(ErrorKind::Io, format!("{}: {message}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let value: Value = serde_norway::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let words = words_of(&value).map_err(wrong)?;
    let mut command = File::<A>::command().no_binary_name(true);
    let matches = command.try_get_matches_from_mut(words).map_err(|error| {
        // The parser speaks of a command line; only its first lines are true of a file.
        let text = error.to_string();
        let said = text.split("\n\n").next().unwrap_or_default();
        wrong(said.trim_start_matches("error: ").to_owned())
    })?;
    Ok(File::<A>::from_arg_matches(&matches)?.arguments)
}

#[derive(Debug, Parser)]
#[command(disable_help_flag = true)]
struct File<A: Args> {
    #[command(flatten)]
    arguments: A,
}

fn words_of(value: &Value) -> Result<Vec<String>, String> {
    let mapping = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Mapping(mapping) => mapping,
        _ => return Err("expected lines of the form key: value".to_owned()),
    };
    let mut words = Vec::new();
    for (key, value) in mapping {
        let key = key.as_str().ok_or_else(|| "a key is not text".to_owned())?;
        match value {
            Value::Sequence(values) => {
                for value in values {
                    words.extend(word_of(key, value)?);
                }
            }
            value => words.extend(word_of(key, value)?),
        }
    }
    Ok(words)
}

fn word_of(key: &str, value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null | Value::Bool(false) => Ok(None),
        Value::Bool(true) => Ok(Some(format!("--{key}"))),
        Value::Number(number) => Ok(Some(format!("--{key}={number}"))),
        Value::String(text) => Ok(Some(format!("--{key}={text}"))),
        _ => Err(format!("{key}: expected a text, a number, true, false or a list of these")),
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::serve::files::test::Folder;

    #[derive(Args, Debug, PartialEq)]
    struct Sample {
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        number: Option<u16>,
        #[arg(long)]
        flag: bool,
        #[arg(long)]
        many: Vec<String>,
    }

    fn parse(text: &str) -> Result<Sample, clap::Error> {
        let folder = Folder::new("config");
        let path = folder.path().join("file.yaml");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn a_file_says_what_the_command_line_says() {
        let read = parse("name: a b\nnumber: 7\nflag: true\nmany:\n- x\n- -y\n").unwrap();
        let many = vec!["x".to_owned(), "-y".to_owned()];
        assert_eq!(read, Sample { name: Some("a b".to_owned()), number: Some(7), flag: true, many });
        let one = parse("many: x\nflag: false\nname: null\n").unwrap();
        assert_eq!(one, Sample { name: None, number: None, flag: false, many: vec!["x".to_owned()] });
        assert!(parse("").unwrap().many.is_empty());
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        for (text, part) in [
            ("nome: x", "--nome"),
            ("number: x", "--number"),
            ("name: {a: b}", "name"),
            ("- a", "key: value"),
            ("a: [", "line"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(read::<Sample>(Path::new("/nonexistent/x.yaml")).is_err());
    }
}
