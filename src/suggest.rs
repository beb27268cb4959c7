//! The name that somebody meant who wrote another one. Knows neither files nor tools.

/// The one of these names from which `written` differs by a typing error: one letter, or two of a name
/// of six letters or more. Letters that changed places count as one.
pub(crate) fn nearest<'a>(
    written: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let most = match written.chars().count() {
        0..=2 => return None,
        3..=5 => 1,
        _ => 2,
    };
    names
        .into_iter()
        .map(|name| (strsim::osa_distance(written, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// What serde quotes in an error such as ``unknown field `hour`, expected one of `per_hour`, `per_day` ``:
/// first the unknown name, then the valid ones.
pub(crate) fn quoted(message: &str) -> impl Iterator<Item = &str> {
    let quoted = message.split('`').skip(1).step_by(2);
    quoted.take(if message.starts_with("unknown ") { usize::MAX } else { 0 })
}

/// The valid name that was meant by the one of which serde complains.
pub(crate) fn meant(message: &str) -> Option<&str> {
    let mut names = quoted(message);
    let unknown = names.next()?;
    nearest(unknown, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_found_and_nothing_else() {
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
        for (written, meant) in [
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
            assert_eq!(nearest(written, names), meant, "{written}");
        }
    }
}
