//! The options of commands that lease keys: which keys, and who holds them.

use super::client::ApiRequest;
use crate::key::{Holder, Label};

/// Which keys to lease, and for whom.
#[derive(clap::Args, Clone)]
pub(super) struct Choice {
    /// Lease among the keys with this label only, such as plan:pro
    #[arg(long, value_name = "NAME:VALUE", value_parser = parse_label)]
    label: Option<Label>,
    /// Who holds the lease, such as worker-7: `list` shows it, and `take-back` ends all leases of one holder. By
    /// default the name of the token
    #[arg(long, value_name = "HOLDER", value_parser = parse_holder)]
    holder: Option<String>,
}

impl Choice {
    /// Adds the parameters to a request.
    pub(super) fn of<'a>(&self, request: ApiRequest<'a>) -> ApiRequest<'a> {
        request.parameter("label", self.label.as_ref()).parameter("holder", self.holder.as_ref())
    }

    /// What a 404 means to a command that leases keys.
    pub(super) fn no_free_key(&self) -> String {
        let (which, more) = match &self.label {
            Some(label) => (
                format!(" with the label {label}"),
                "Check whether keys have that label, import more of them",
            ),
            None => (String::new(), "Create or import more keys"),
        };
        format!("no key{which} is free. {more}, or wait longer for one, such as with --wait 30s.")
    }
}

/// Reads a label.
pub(super) fn parse_label(text: &str) -> Result<Label, String> {
    Label::parse(text).ok_or_else(|| {
        format!(
            "must be a name, a colon and a value, such as plan:pro, with 1 to {} characters each",
            Label::CHARS_MAX
        )
    })
}

/// Reads the name of a holder.
pub(super) fn parse_holder(text: &str) -> Result<String, String> {
    let holder = Holder::new(text, None).map(|holder| holder.name().to_owned());
    holder.ok_or_else(|| {
        format!(
            "must have 1 to {} ASCII characters without spaces, such as worker-7",
            Holder::CHARS_MAX
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_the_server_takes() {
        assert_eq!(parse_label("plan:pro:2").unwrap().to_string(), "plan:pro:2");
        let long = "x".repeat(65);
        for text in ["", "plan", "plan:", ":pro", &format!("plan:{long}")] {
            assert!(parse_label(text).unwrap_err().contains("such as plan:pro"), "{text}");
        }
        assert_eq!(parse_holder("worker-7"), Ok("worker-7".to_owned()));
        for text in ["", "worker 7", "\u{e9}", &long] {
            assert!(parse_holder(text).unwrap_err().contains("such as worker-7"), "{text}");
        }
    }

    #[test]
    fn no_free_key_is_told_with_its_label() {
        let told = |label: &str| Choice { label: Label::parse(label), holder: None }.no_free_key();
        assert!(told("").starts_with("no key is free. Create or import more keys, or wait longer"));
        assert!(
            told("a:b").starts_with("no key with the label a:b is free. Check whether keys have")
        );
    }
}
