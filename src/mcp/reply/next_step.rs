//! What a caller can do next, as data. A step that needs a tool which the caller is not offered is left out
//! here, and nowhere else.

use std::borrow::Cow;

use crate::account::Environment;
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::name::ToolName;
use crate::own_command::own_command;

/// One step that an answer or a failure suggests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    /// Call a tool; the hint is the predicate of a sentence whose subject is the tool.
    Tool { name: ToolName, hint: Cow<'static, str> },
    /// Have the user run this program with these arguments; the hint says what it does then.
    Command { args: &'static str, hint: &'static str },
    /// An instruction that needs neither, as a sentence: mostly what to tell the user.
    Person(Cow<'static, str>),
}

impl NextStep {
    #[must_use]
    pub const fn tool(name: ToolName, hint: &'static str) -> Self {
        Self::Tool { name, hint: Cow::Borrowed(hint) }
    }

    #[must_use]
    pub const fn person(text: &'static str) -> Self {
        Self::Person(Cow::Borrowed(text))
    }

    /// The step as a sentence, unless the caller is not offered the tool that it needs.
    fn to_sentence(&self, tools: &AvailableTools) -> Option<String> {
        match self {
            Self::Tool { name, hint } => tools.contains(*name).then(|| format!("{name} {hint}.")),
            Self::Command { args, hint } => {
                let flag = match tools.environment() {
                    Environment::Live => "",
                    Environment::Sandbox => "--sandbox ",
                };
                let program = own_command();
                Some(format!("Ask the user to run `{program} {flag}{args}`, which {hint}."))
            }
            Self::Person(text) => Some(text.to_string()),
        }
    }
}

/// Renders the steps that this caller can take, as sentences on one line.
#[must_use]
pub fn render(steps: &[NextStep], tools: &AvailableTools) -> String {
    let sentences: Vec<String> = steps.iter().filter_map(|step| step.to_sentence(tools)).collect();
    sentences.join(" ")
}

/// Appends to a text the steps that this caller can take.
#[must_use]
pub fn with_steps(text: &str, steps: &[NextStep], tools: &AvailableTools) -> String {
    format!("{text} {}", render(steps, tools)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_rendered_if_its_tool_is_available() {
        let steps = [
            NextStep::tool(ToolName::LIST_CALLS, "shows the calls"),
            NextStep::tool(ToolName::PLACE_CALL, "places one"),
            NextStep::Command { args: "doctor", hint: "diagnoses the installation" },
            NextStep::person("Tell the user."),
        ];
        let rest = "Ask the user to run `callingbox-mcp doctor`, which diagnoses the installation. Tell the user.";
        for (tools, sentences) in [
            (
                &[ToolName::LIST_CALLS, ToolName::PLACE_CALL][..],
                "list_calls shows the calls. place_call places one. ",
            ),
            (&[ToolName::LIST_CALLS], "list_calls shows the calls. "),
            (&[ToolName::PLACE_CALL], "place_call places one. "),
            (&[ToolName::GET_AGENT], ""),
        ] {
            let tools = AvailableTools::only(tools, Environment::Live);
            assert_eq!(render(&steps, &tools), format!("{sentences}{rest}"));
        }
        let none = AvailableTools::only(&[ToolName::GET_AGENT], Environment::Sandbox);
        assert_eq!(
            render(&steps[2..3], &none),
            "Ask the user to run `callingbox-mcp --sandbox doctor`, which diagnoses the installation."
        );
        assert_eq!(with_steps("No calls.", &steps[..2], &none), "No calls.");
    }
}
