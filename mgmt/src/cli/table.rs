//! Commands that are one request each, as rows of a table: verb, noun, path, and where each option goes.
//!
//! A row becomes a command of its own with help and an example, unless the command line has one of that name already.

mod access;
mod rows;
mod site;
mod storage;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{ArgAction, ArgMatches, Command, FromArgMatches as _, value_parser};
use hyper::Method;
use serde_json::{Map, Value, json};

use super::Environment;
use super::client::{Call, Client, encode};
use super::failure::Failure;
use super::output::{Shape, render};
use super::run::with_client;
use super::settings::ClientArgs;
pub(super) use rows::all;

/// One command.
#[derive(Debug)]
pub(super) struct Row {
    /// The verb.
    pub(super) verb: &'static str,
    /// The noun.
    pub(super) noun: &'static str,
    /// Other spellings of the noun.
    pub(super) aliases: &'static [&'static str],
    /// What it does.
    pub(super) about: &'static str,
    /// The words after `ferrule <verb> <noun>` in the example.
    pub(super) example: &'static str,
    /// The method.
    pub(super) method: Method,
    /// The path; `{projectName}` is the project's name, the other variables are options.
    pub(super) path: &'static str,
    /// The path that is used where no project is named and the token is not of one.
    pub(super) everywhere: Option<&'static str>,
    /// The options.
    pub(super) options: &'static [Opt],
    /// How people see the answer.
    pub(super) shape: Shape,
}

/// One option.
#[derive(Debug)]
pub(super) struct Opt {
    /// Its flag, without dashes; a word in capitals stands alone.
    pub(super) flag: &'static str,
    /// Its place in the request, with dots for fields in objects.
    pub(super) field: &'static str,
    /// Where it goes.
    pub(super) place: Place,
    /// What it is.
    pub(super) kind: Kind,
    /// Whether it must be given.
    pub(super) required: bool,
    /// What it means.
    pub(super) help: &'static str,
}

/// Where an option goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the path, as a variable.
    Path,
    /// In the query.
    Query,
    /// In the body.
    Body,
    /// In the body, in the limit that `--type` names.
    Limit,
}

/// What an option is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text.
    Text,
    /// A number.
    Number,
    /// `true` where it is given.
    Flag,
    /// Texts; may be repeated.
    List,
    /// `KEY=VALUE`; may be repeated.
    Labels,
    /// A file's bytes in base64.
    File,
    /// JSON, for what has no option of its own.
    Json,
    /// One of these names, in any case and with or without `-` and `_`.
    Name(&'static [&'static str]),
}

/// Adds the rows to `command`.
pub(super) fn augment(mut command: Command) -> Command {
    for row in all() {
        if command.find_subcommand(row.verb).is_none() {
            let verb = Command::new(row.verb).about(verb_about(row.verb)).subcommand_required(true);
            command = command.subcommand(ClientArgs::add_to(verb.arg_required_else_help(true)));
        }
        let known = |verb: &Command| verb.find_subcommand(row.noun).is_some();
        if !command.find_subcommand(row.verb).is_some_and(known) {
            command = command.mut_subcommand(row.verb, |verb| verb.subcommand(row.command()));
        }
    }
    command
}

/// The row that `matches` are of, with those of its verb and of its noun.
pub(super) fn find<'a>(
    command: &Command,
    matches: &'a ArgMatches,
) -> Option<(&'static Row, &'a ArgMatches, &'a ArgMatches)> {
    let (verb, verb_matches) = matches.subcommand()?;
    let (noun, noun_matches) = verb_matches.subcommand()?;
    let row = all().find(|row| row.verb == verb && row.noun == noun)?;
    // Where the command line has a command of its own, the row has not been added.
    let own = command.find_subcommand(verb)?.find_subcommand(noun)?.get_about()?.to_string() == row.about;
    own.then_some((row, verb_matches, noun_matches))
}

/// Runs the command of a row.
pub(super) fn run(
    row: &'static Row,
    verb: &ArgMatches,
    noun: &ArgMatches,
    environment: Environment<'_>,
) -> Result<String, Failure> {
    let client = ClientArgs::from_arg_matches(verb)?;
    with_client(client, environment, async |client| row.send(client, noun).await)
}

impl Row {
    fn command(&self) -> Command {
        let mut command = Command::new(self.noun).about(self.about).aliases(self.aliases.iter().copied());
        for option in self.options {
            command = command.arg(option.arg());
        }
        let exclusive = |option: &&Opt| matches!(option.flag, "uuid" | "name") && !option.required;
        let which: Vec<&str> = self.options.iter().filter(exclusive).map(|option| option.flag).collect();
        if which.len() == 2 && self.path.contains("{UUID}") {
            command = command.group(clap::ArgGroup::new("which").args(which).required(true));
        }
        command.after_help(
            format!("Example:\n  ferrule {} {} {}", self.verb, self.noun, self.example).trim_end().to_owned(),
        )
    }

    async fn send(&self, client: &Client, matches: &ArgMatches) -> Result<String, Failure> {
        let mut query: Vec<String> = Vec::new();
        let mut body = Map::new();
        let mut path = self.path_for(client);
        for option in self.options {
            let Some(value) = option.value(matches)? else { continue };
            match option.place {
                Place::Path => {
                    path = path.replace(&format!("{{{}}}", option.field), &encode(&text_of(&value)))
                }
                Place::Query => match &value {
                    Value::Array(values) => {
                        query.extend(values.iter().map(|value| pair(option.field, &text_of(value))));
                    }
                    value => query.push(pair(option.field, &text_of(value))),
                },
                Place::Body => set(&mut body, option.field, value),
                Place::Limit => {
                    let kind = matches.get_one::<String>("type").map_or("", String::as_str);
                    if let Some(field) = limit_field(kind, option.field) {
                        set(&mut body, &field, value);
                    }
                }
            }
        }
        let mut call = Call::new(self.method.clone(), with_query(&drop_variables(&path), &query));
        if matches!(self.method, Method::POST | Method::PUT) {
            call.body = Some(Value::Object(body));
        }
        let mut answer = client.send(call).await?;
        if matches.try_get_one::<u64>("limit").ok().flatten().is_none() {
            self.complete(client, &path, &query, &mut answer).await?;
        }
        render(&answer, client.settings.output, self.shape)
    }

    /// Adds the pages that follow the first, where the answer says that there are more.
    async fn complete(
        &self,
        client: &Client,
        path: &str,
        query: &[String],
        answer: &mut Value,
    ) -> Result<(), Failure> {
        let Shape::List(list, _) = self.shape else { return Ok(()) };
        while let Some(token) = answer["nextToken"].as_str().filter(|token| !token.is_empty()) {
            let further: Vec<String> = query
                .iter()
                .filter(|pair| !pair.starts_with("nextToken="))
                .cloned()
                .chain([pair("nextToken", token)])
                .collect();
            let path = with_query(&drop_variables(path), &further);
            let mut next = client.send(Call::new(self.method.clone(), path)).await?;
            let found = next[list].as_array_mut().map(std::mem::take).unwrap_or_default();
            // A page without anything has no page after it, whatever it says.
            answer["nextToken"] = if found.is_empty() { Value::Null } else { next["nextToken"].take() };
            answer[list].as_array_mut().into_iter().for_each(|all| all.extend_from_slice(&found));
        }
        Ok(())
    }

    fn path_for(&self, client: &Client) -> String {
        match (self.everywhere, client.settings.listed_project()) {
            (Some(everywhere), None) => everywhere.to_owned(),
            _ => self.path.replace("{projectName}", &encode(&client.settings.project())),
        }
    }
}

impl Opt {
    fn arg(&self) -> clap::Arg {
        let positional = self.flag.chars().all(|letter| letter.is_ascii_uppercase());
        let arg = clap::Arg::new(self.flag).help(self.help).required(self.required);
        let arg = if self.place == Place::Limit && self.flag != "type" { arg.requires("type") } else { arg };
        let arg = if positional {
            arg.value_name(self.flag)
        } else {
            arg.long(self.flag).value_name(value_name(self.flag))
        };
        match self.kind {
            Kind::Flag => arg.action(ArgAction::SetTrue),
            Kind::Number => arg.value_name("N").value_parser(value_parser!(u64)),
            Kind::List => arg.action(ArgAction::Append).value_delimiter(','),
            Kind::Labels => arg.action(ArgAction::Append).value_name("KEY=VALUE"),
            Kind::File => arg.value_name("FILE"),
            Kind::Json => arg.value_name("JSON"),
            Kind::Name(names) if self.place == Place::Limit => arg.value_parser(names.to_vec()),
            Kind::Text | Kind::Name(_) => arg,
        }
    }

    fn value(&self, matches: &ArgMatches) -> Result<Option<Value>, Failure> {
        let wrong = |reason: String| Failure::Wrong { what: format!("--{}", self.flag), reason };
        if self.kind == Kind::Flag {
            return Ok(matches.get_flag(self.flag).then_some(Value::Bool(true)));
        }
        if self.kind == Kind::Number {
            return Ok(matches.get_one::<u64>(self.flag).map(|number| json!(number)));
        }
        let Some(texts) = matches.get_many::<String>(self.flag) else { return Ok(None) };
        let texts: Vec<&String> = texts.collect();
        let one = texts.first().map(|text| text.as_str()).unwrap_or_default();
        Ok(Some(match self.kind {
            Kind::List => json!(texts),
            Kind::Labels => {
                let label = |text: &&String| {
                    let (key, value) =
                        text.split_once('=').ok_or_else(|| wrong("expected KEY=VALUE".to_owned()))?;
                    Ok(json!({"key": key, "value": value}))
                };
                texts.iter().map(label).collect::<Result<Value, Failure>>()?
            }
            Kind::File => {
                let bytes = std::fs::read(Path::new(one))
                    .map_err(|error| Failure::File { path: one.to_owned(), reason: error.to_string() })?;
                STANDARD.encode(bytes).into()
            }
            Kind::Json => serde_json::from_str(one).map_err(|error| wrong(error.to_string()))?,
            Kind::Name(names) => {
                let bare = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
                let found = names.iter().find(|name| bare(name) == bare(one));
                (*found.ok_or_else(|| wrong(format!("expected one of {}", names.join(", "))))?).into()
            }
            Kind::Text | Kind::Flag | Kind::Number => one.into(),
        }))
    }
}

/// The field of a limit by its type, for `read` or `write`.
fn limit_field(kind: &str, which: &str) -> Option<String> {
    let (limit, suffix) = match kind {
        "iops" => ("limitIOPS", "IOPSLimit"),
        "bw" => ("limitBw", "BWLimit"),
        "iops-per-gb" => ("limitIOPSPerGB", "IOPSPerGBLimit"),
        _ => return None,
    };
    (!which.is_empty()).then(|| format!("qoSRateLimitPolicy.{limit}.{which}{suffix}"))
}

fn with_query(path: &str, query: &[String]) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

fn pair(name: &str, value: &str) -> String {
    format!("{}={}", encode(name), encode(value))
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Sets a field, or one in an object.
fn set(object: &mut Map<String, Value>, field: &str, value: Value) {
    match field.split_once('.') {
        None if field.is_empty() => {
            // What has no name is the body itself.
            if let Value::Object(fields) = value {
                object.extend(fields);
            }
        }
        None => drop(object.insert(field.to_owned(), value)),
        Some((outer, inner)) => {
            let entry = object.entry(outer).or_insert_with(|| json!({}));
            if let Value::Object(fields) = entry {
                set(fields, inner, value);
            }
        }
    }
}

/// A variable that was not given is empty: then a name is, in query or body.
fn drop_variables(path: &str) -> String {
    let mut text = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        text += before;
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    text + rest
}

/// What an option takes, by its last word.
fn value_name(flag: &str) -> &'static str {
    match flag.rsplit('-').next().unwrap_or_default() {
        "uuid" | "uuids" => "UUID",
        "name" | "projects" => "NAME",
        "nqn" => "NQN",
        "url" | "uri" => "URL",
        "since" | "until" => "TIME",
        "description" => "TEXT",
        "ip" | "ips" => "ADDR",
        _ => "VALUE",
    }
}

fn verb_about(verb: &str) -> &'static str {
    match verb {
        "add" => "Add a drive to the pool",
        "attach" => "Attach another cluster",
        "detach" => "Detach another cluster",
        "disable" => "Turn something off",
        "enable" => "Turn something on",
        "replace" => "Put another in the place of a node",
        "rotate" => "Put a new key in the place of one",
        "set" => "Set a secret",
        "upgrade" => "Upgrade the program",
        _ => "More",
    }
}

#[cfg(test)]
mod test;

#[cfg(test)]
mod requests {
    use super::*;

    #[test]
    fn fields_lie_in_objects_and_absent_variables_are_empty() {
        let mut body = Map::new();
        set(&mut body, "a.b", 1.into());
        set(&mut body, "a.c", 2.into());
        set(&mut body, "d", 3.into());
        set(&mut body, "", json!({"e": 4}));
        assert_eq!(Value::Object(body), json!({"a": {"b": 1, "c": 2}, "d": 3, "e": 4}));
        assert_eq!(drop_variables("/servers/{UUID}/enable"), "/servers//enable");
    }
}
