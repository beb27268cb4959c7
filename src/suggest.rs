//! "Did you mean": finds the valid name for a misspelled one. Knows neither files nor tools.

/// A name that does not exist, with the valid names and the most similar one of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} `{name}`{}; the valid names are: {valid}", .similar.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default())]
pub struct UnknownName {
    what: &'static str,
    name: String,
    similar: Option<String>,
    valid: String,
}

impl UnknownName {
    /// `what` is the kind of thing that has one of the `valid` names, and not `name`.
    pub fn new(what: &'static str, name: &str, valid: impl Iterator<Item = String>) -> Self {
        let valid = valid.collect::<Vec<_>>();
        Self {
            what,
            name: name.to_owned(),
            similar: most_similar(name, valid.iter()).cloned(),
            valid: valid.join(", "),
        }
    }
}

/// The most similar of these names, if one is similar enough. A common beginning counts most, which suits
/// the long names of tools.
pub(crate) fn most_similar<T: AsRef<str>>(name: &str, names: impl Iterator<Item = T>) -> Option<T> {
    names
        .map(|known| (strsim::jaro_winkler(name, known.as_ref()), known))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// The name that differs from `written` by a typing error: by one letter, or by two in a word of six letters
/// or more. Two swapped letters count as one.
pub(crate) fn correct_typo<'a>(
    written: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let max_distance = match written.chars().count() {
        0..=2 => return None,
        3..=5 => 1,
        _ => 2,
    };
    names
        .into_iter()
        .map(|name| (strsim::osa_distance(written, name), name))
        .filter(|(distance, _)| *distance <= max_distance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The names that serde quotes in an error such as ``unknown field `hour`, expected one of `per_hour`, `per_day` ``:
/// first the unknown name, then the valid ones.
pub(crate) fn quoted_names(message: &str) -> impl Iterator<Item = &str> {
    let quoted = message.split('`').skip(1).step_by(2);
    quoted.take(if message.starts_with("unknown ") { usize::MAX } else { 0 })
}

/// The valid name for the unknown one that this error of serde reports.
pub(crate) fn correct_unknown_name(message: &str) -> Option<&str> {
    let mut names = quoted_names(message);
    let unknown = names.next()?;
    correct_typo(unknown, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrects_typing_errors_and_nothing_else() {
        let names = [
            "read_only",
            "toolsets",
            "tools",
            "log",
            "dialing",
            "wait",
            "default",
            "allow",
            "ask",
            "refuse",
            "never",
            "auto",
            "always",
            "calls",
            "agents",
            "numbers",
            "per_hour",
            "hash",
        ];
        for (written, expected) in [
            ("read_onyl", Some("read_only")),
            ("tolsets", Some("toolsets")),
            ("read-only", Some("read_only")),
            ("per_huor", Some("per_hour")),
            ("dailing", Some("dialing")),
            ("cals", Some("calls")),
            ("hsah", Some("hash")),
            ("alow", Some("allow")),
            ("alwayz", Some("always")),
            ("nope", None),
            ("maybe", None),
            ("bogus", None),
            ("deny", None),
            ("yes", None),
            ("no", None),
            ("sandbox", None),
            ("", None),
        ] {
            assert_eq!(correct_typo(written, names), expected, "{written}");
        }
    }
}
