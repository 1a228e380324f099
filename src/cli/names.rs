//! What the user calls an option: by its environment variable, if the value came from there.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Error};

/// The options whose values came from the environment, with their variables.
#[derive(Clone, Default)]
pub(super) struct Names(Vec<(String, String)>);

impl Names {
    /// The names of the options that `matches` has values of. O(options).
    pub(super) fn of(command: &Command, matches: &ArgMatches) -> Self {
        let (command, matches) = match matches.subcommand() {
            Some((name, matches)) => (command.find_subcommand(name).unwrap_or(command), matches),
            None => (command, matches),
        };
        let name = |argument: &Arg| {
            let source = matches.value_source(argument.get_id().as_str())?;
            let names = (argument.get_long()?.to_owned(), variable(argument)?);
            (source == ValueSource::EnvVariable).then_some(names)
        };
        Self(command.get_arguments().filter_map(name).collect())
    }

    /// What the user calls an option that is given without its dashes, such as `listen`. O(options).
    pub(super) fn name(&self, option: &str) -> String {
        let found = self.0.iter().find(|(long, _)| long == option);
        found.map_or_else(|| format!("--{option}"), |(_, variable)| variable.clone())
    }

    /// An error about the values of some options, with their names before its message. O(options).
    pub(super) fn blame(&self, options: &[&str], error: &io::Error) -> io::Error {
        let names: Vec<_> = options.iter().map(|option| self.name(option)).collect();
        io::Error::new(error.kind(), format!("{}: {error}", names.join(" and ")))
    }
}

/// The message of `error`, in which an option is called by its variable if the wrong value came from there.
///
/// Clap names the option in any case. But if the same arguments are not refused without the environment, it
/// is the environment that is wrong.
pub(super) fn message(error: &Error, command: &Command, arguments: &[OsString]) -> String {
    let text = error.render().to_string();
    let without = each_argument(command.clone(), without_variable);
    let is_same = |other: &Error| other.kind() == error.kind() && option(other) == option(error);
    if without.try_get_matches_from(arguments).is_err_and(|other| is_same(&other)) {
        return text;
    }
    // As clap does before it parses; else an argument cannot be written as text.
    let mut command = command.clone();
    command.build();
    let mut all = arguments_of(&command).into_iter();
    if error.kind() == ErrorKind::InvalidUtf8 {
        let is_text =
            |name: &String| env::var_os(name).is_none_or(|value| value.to_str().is_some());
        let bad = all.filter_map(variable).find(|name| !is_text(name));
        return bad.map_or(text, |name| format!("{name} is not valid UTF-8"));
    }
    let Some(option) = option(error) else { return text };
    let named = all.find(|argument| argument.to_string() == option).and_then(variable);
    named.map_or_else(|| text.clone(), |name| text.replace(&format!("'{option}'"), &name))
}

/// The arguments of a command and of all commands below it.
fn arguments_of(command: &Command) -> Vec<&Arg> {
    let below = command.get_subcommands().flat_map(arguments_of);
    command.get_arguments().chain(below).collect()
}

/// The option that an error is about, as clap writes it: with what its value stands for.
fn option(error: &Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(option) => Some(option.clone()),
        ContextValue::Strings(options) => options.first().cloned(),
        _ => None,
    }
}

fn variable(argument: &Arg) -> Option<String> {
    Some(argument.get_env()?.to_str()?.to_owned())
}

/// What the user calls an option of a client that names the file `path`: by its variable, if that names the same
/// file.
pub(super) fn name_of_file(
    option: &'static str,
    variable: &'static str,
    path: &Path,
) -> &'static str {
    if env::var_os(variable).is_some_and(|value| value == path) { variable } else { option }
}

/// A command with each argument changed, and those of all commands below it. O(arguments).
pub(super) fn each_argument(command: Command, change: fn(Arg) -> Arg) -> Command {
    let command = command.mut_args(change);
    command.mut_subcommands(|below| each_argument(below, change))
}

/// The same argument, without its variable.
pub(super) fn without_variable(argument: Arg) -> Arg {
    argument.env(None::<&'static str>)
}
