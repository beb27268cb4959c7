//! What a human must know to decide, as fields that a text, a form or a view can show. This module does not know how the
//! human is asked.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;

/// What the human must know to decide.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The question.
    pub title: String,
    pub fields: Vec<PreviewField>,
    /// What the yes covers besides the title and the fields.
    pub covered: String,
}

/// One thing to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PreviewField {
    pub name: &'static str,
    pub value: String,
    /// Whether the yes covers it. The time of day passes while the human thinks.
    #[serde(skip)]
    pub is_covered: bool,
}

impl Preview {
    /// A preview with these covered fields; those without a value are left out.
    #[must_use]
    pub fn new(
        title: String,
        fields: impl IntoIterator<Item = (&'static str, Option<String>)>,
        covered: String,
    ) -> Self {
        let fields = fields.into_iter().filter_map(|(name, value)| {
            Some(PreviewField { name, value: value?, is_covered: true })
        });
        Self { title, fields: fields.collect(), covered }
    }

    /// Adds the local time at the destination, which the yes does not cover, after the first field.
    #[must_use]
    pub fn with_local_times(mut self, local_times: &[String]) -> Self {
        let value = match local_times {
            [] => "unknown".to_owned(),
            times => times.join(" or "),
        };
        let field = PreviewField { name: "Local time there", value, is_covered: false };
        self.fields.insert(1.min(self.fields.len()), field);
        self
    }

    /// Adds a field that the yes does not cover, because it changes by itself.
    #[must_use]
    pub fn with_uncovered(mut self, name: &'static str, value: String) -> Self {
        self.fields.push(PreviewField { name, value, is_covered: false });
        self
    }

    /// The preview as text.
    #[must_use]
    pub fn text(&self) -> String {
        self.to_lines(&self.fields)
    }

    /// Everything that the yes covers.
    #[must_use]
    pub fn covered_text(&self) -> String {
        let fields = self.fields.iter().filter(|field| field.is_covered);
        format!("{}\n{}", self.to_lines(fields), self.covered)
    }

    fn to_lines<'a>(&self, fields: impl IntoIterator<Item = &'a PreviewField>) -> String {
        let mut text = self.title.clone();
        for field in fields {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{}: {}", field.name, field.value);
        }
        text
    }
}
