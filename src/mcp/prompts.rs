//! Prompts: the usual jobs, each with the arguments to ask the user for and the tools to use. One whose
//! tools are not all offered is left out.

use rmcp::model::{
    ErrorData, GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage, Role,
};
use serde_json::Value;

use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::text::one_line;

/// One argument of a prompt.
struct Argument {
    name: &'static str,
    description: &'static str,
    required: bool,
}

const fn required_argument(name: &'static str, description: &'static str) -> Argument {
    Argument { name, description, required: true }
}

const fn optional_argument(name: &'static str, description: &'static str) -> Argument {
    Argument { name, description, required: false }
}

const AGENT: Argument =
    optional_argument("agent_id", "Agent to use. Default: a suitable one is found or created.");
const LANGUAGE: Argument = optional_argument("language", "BCP 47 tag of the language to speak.");

/// A job.
struct PromptTemplate {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    arguments: &'static [Argument],
    /// The tools that the text names.
    tools: &'static [ToolName],
    /// `{name}` stands for an argument. A line that names an argument that was not given is left out.
    text: &'static str,
}

impl PromptTemplate {
    /// A tool that it needs and that is not offered.
    fn missing_tool(&self, tools: &AvailableTools) -> Option<ToolName> {
        self.tools.iter().copied().find(|tool| !tools.contains(*tool))
    }
}

const PROMPTS: [PromptTemplate; 6] = [
    PromptTemplate {
        name: "call_list",
        title: "Call a list of people",
        description: "Calls several people with one task and reports the answers as a table.",
        arguments: &[
            required_argument("people", "Numbers in E.164, with names and facts for each person."),
            required_argument("task", "What to ask or say; {name} stands for the person's name."),
            optional_argument("until", "When the last call may start."),
            AGENT,
        ],
        tools: &[
            ToolName::LIST_AGENTS,
            ToolName::CREATE_AGENT,
            ToolName::PLACE_CALLS,
            ToolName::GET_BATCH,
        ],
        text: "Call a list of people by phone.\n\
            People: {people}.\n\
            Task: {task}.\n\
            Start no call after {until}.\n\
            Use agent {agent_id}.\n\
            Steps: if no agent is named, find an outbound agent with list_agents, or create one with create_agent whose returns hold the answers and which has a number. \
            Then place_calls once for the whole list, with placeholders for what differs; show the user the preview if there is one, and start it only after their yes. \
            get_batch with wait_seconds waits for the results: report them as a table, with the cost. Do not call anybody again unless the user asks.",
    },
    PromptTemplate {
        name: "appointment_confirmation",
        title: "Confirm an appointment",
        description: "Calls a person to confirm an appointment or to find another time.",
        arguments: &[
            required_argument("to", "Number to call, E.164."),
            required_argument("person", "Who is called."),
            required_argument("appointment", "What, where and when."),
            AGENT,
            LANGUAGE,
        ],
        tools: &[
            ToolName::LIST_AGENTS,
            ToolName::CREATE_AGENT,
            ToolName::LIST_NUMBERS,
            ToolName::SET_AGENT_NUMBERS,
            ToolName::PLACE_CALL,
            ToolName::GET_CALL_RESULT,
        ],
        text: "Confirm an appointment by phone.\n\
            Call {person} at {to}. The appointment: {appointment}.\n\
            Use agent {agent_id}.\n\
            Speak {language}.\n\
            Steps: if no agent is named, find an outbound agent with list_agents, or create one with create_agent whose returns are {\"confirmed\": \"boolean\", \"new_time\": \"string\", \"reason\": \"string\"} and which has a number (list_numbers, set_agent_numbers). \
            Then place_call with the appointment in instructions and context, get_call_result to wait for the end, and report whether it was confirmed, the new time if there is one, and the cost.",
    },
    PromptTemplate {
        name: "lead_qualification",
        title: "Qualify a lead",
        description: "Calls a prospect and finds out need, budget and time frame.",
        arguments: &[
            required_argument("to", "Number to call, E.164."),
            required_argument("person", "Who is called."),
            required_argument("offer", "What is offered, in a sentence or two."),
            AGENT,
        ],
        tools: &[
            ToolName::LIST_AGENTS,
            ToolName::CREATE_AGENT,
            ToolName::PLACE_CALL,
            ToolName::GET_CALL_RESULT,
        ],
        text: "Qualify a lead by phone.\n\
            Call {person} at {to}. The offer: {offer}.\n\
            Use agent {agent_id}.\n\
            Steps: if no agent is named, find one with list_agents, or create one with create_agent whose returns are {\"interested\": \"boolean\", \"need\": \"string\", \"budget\": \"number\", \"time_frame\": \"string\", \"callback_wanted\": \"boolean\"} and which has a number. \
            Then place_call, get_call_result, and report the fields. A no is a good answer: do not call again.",
    },
    PromptTemplate {
        name: "payment_collection",
        title: "Remind of an open payment",
        description: "Calls a person about an open payment and asks when it will be paid.",
        arguments: &[
            required_argument("to", "Number to call, E.164."),
            required_argument("person", "Who is called."),
            required_argument("amount", "What is open, with currency."),
            required_argument("due", "Since when, and for what."),
            AGENT,
        ],
        tools: &[
            ToolName::LIST_AGENTS,
            ToolName::CREATE_AGENT,
            ToolName::PLACE_CALL,
            ToolName::GET_CALL_RESULT,
        ],
        text: "Remind a person of an open payment by phone, politely.\n\
            Call {person} at {to}. Open: {amount}, {due}.\n\
            Use agent {agent_id}.\n\
            Steps: if no agent is named, find one with list_agents, or create one with create_agent whose persona verifies that it speaks with the right person before it mentions an amount, never takes card numbers, and whose returns are {\"right_person\": \"boolean\", \"will_pay\": \"boolean\", \"pay_on\": \"string\", \"reason\": \"string\"}. \
            Then place_call, get_call_result, and report what was agreed.",
    },
    PromptTemplate {
        name: "receptionist",
        title: "Set up a receptionist",
        description: "Creates an agent that answers calls to one of the account's numbers.",
        arguments: &[
            required_argument("business", "What callers reach: name, opening hours, what it does."),
            optional_argument("number", "Owned number to answer, E.164."),
            LANGUAGE,
        ],
        tools: &[
            ToolName::LIST_NUMBERS,
            ToolName::SEARCH_NUMBERS,
            ToolName::PURCHASE_NUMBER,
            ToolName::CREATE_AGENT,
            ToolName::SET_AGENT_NUMBERS,
            ToolName::LIST_CALLS,
        ],
        text: "Set up a receptionist on an inbound number.\n\
            The business: {business}.\n\
            The number: {number}.\n\
            Speak {language}.\n\
            Steps: list_numbers to find the number_id (if there is none: search_numbers, show me the price, and purchase_number only after I agree). \
            create_agent with type inbound, instructions for callers, and returns {\"caller_name\": \"string\", \"topic\": \"string\", \"callback_wanted\": \"boolean\"}. \
            set_agent_numbers to attach it. Then describe what it will say, and how list_calls with direction inbound shows who called.",
    },
    PromptTemplate {
        name: "set_me_up",
        title: "Set up from an empty account",
        description: "From an empty account to the first call: number, agent, test call.",
        arguments: &[
            required_argument("purpose", "What the calls are for."),
            optional_argument("area_code", "Area code of the number to have."),
            optional_argument("my_number", "Your own phone for a test call, E.164."),
        ],
        tools: &[
            ToolName::LIST_NUMBERS,
            ToolName::LIST_AGENTS,
            ToolName::SEARCH_NUMBERS,
            ToolName::PURCHASE_NUMBER,
            ToolName::CREATE_AGENT,
            ToolName::PLACE_CALL,
            ToolName::GET_CALL_RESULT,
        ],
        text: "Set me up to make phone calls.\n\
            They are for: {purpose}.\n\
            I would like a number in area code {area_code}.\n\
            My own phone, for a test call: {my_number}.\n\
            Steps: look at the present numbers and agents with list_numbers and list_agents. If there is no number: search_numbers, show me the price, and purchase_number only after I agree. \
            create_agent for the purpose with a short persona and two or three returns, with the number attached. \
            If I gave my own phone, ask me once more, then place_call to it and get_call_result. Tell me at each step what was done and what it cost.",
    },
];

/// The prompts that can be carried out with these tools.
#[must_use]
pub fn list_prompts(tools: &AvailableTools) -> Vec<Prompt> {
    PROMPTS
        .iter()
        .filter(|job| job.missing_tool(tools).is_none())
        .map(|job| {
            let arguments = job.arguments.iter().map(|argument| {
                PromptArgument::new(argument.name)
                    .with_description(argument.description)
                    .with_required(argument.required)
            });
            Prompt::new(job.name, Some(job.description), Some(arguments.collect()))
                .with_title(job.title)
        })
        .collect()
}

/// Renders one.
///
/// # Errors
/// There is no such prompt, a tool that it names is not offered, or an argument is missing, unknown or
/// not a text.
pub fn get_prompt(
    name: &str,
    arguments: Option<&JsonObject>,
    tools: &AvailableTools,
) -> Result<GetPromptResult, ErrorData> {
    let names = || PROMPTS.iter().map(|job| job.name).collect::<Vec<_>>().join(", ");
    let invalid = |text: String| ErrorData::invalid_params(text, None);
    let job = PROMPTS.iter().find(|job| job.name == name).ok_or_else(|| {
        invalid(format!("there is no prompt `{}`; there are: {}", one_line(name, 80), names()))
    })?;
    if let Some(tool) = job.missing_tool(tools) {
        return Err(invalid(format!(
            "the prompt `{name}` is not offered here: it needs the tool `{tool}`, which is not"
        )));
    }
    let empty = JsonObject::new();
    let given = arguments.unwrap_or(&empty);
    if let Some(unknown) =
        given.keys().find(|name| job.arguments.iter().all(|known| known.name != name.as_str()))
    {
        let valid: Vec<&str> = job.arguments.iter().map(|argument| argument.name).collect();
        let (unknown, valid) = (one_line(unknown, 80), valid.join(", "));
        return Err(invalid(format!("unknown argument `{unknown}`; valid are: {valid}")));
    }
    let mut values: Vec<(&str, Option<String>)> = Vec::new();
    for argument in job.arguments {
        let value = match given.get(argument.name) {
            Some(Value::String(text)) if !text.trim().is_empty() => Some(one_line(text, 2_000)),
            None | Some(Value::Null | Value::String(_)) if !argument.required => None,
            _ => {
                let Argument { name, description, .. } = argument;
                return Err(invalid(format!("`{name}` is needed, as text: {description}")));
            }
        };
        values.push((argument.name, value));
    }
    let text = fill_template(job.text, &values);
    let message = PromptMessage::new_text(Role::User, text);
    Ok(GetPromptResult::new(vec![message]).with_description(job.description))
}

/// Fills the lines in; one that names an argument that was not given is left out.
fn fill_template(text: &str, values: &[(&str, Option<String>)]) -> String {
    let lines = text.lines().filter_map(|line| {
        let mut filled = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let hit = values.iter().find_map(|(name, value)| {
                let after = after.strip_prefix(name)?.strip_prefix('}')?;
                Some((value, after))
            });
            match hit {
                Some((Some(value), after)) => {
                    filled.push_str(value);
                    rest = after;
                }
                Some((None, _)) => return None,
                None => {
                    filled.push('{');
                    rest = after;
                }
            }
        }
        filled.push_str(rest);
        Some(filled)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::account::Environment;
    use crate::mcp::catalogue::Catalogue;
    use crate::mcp::registry::selection::Selection;

    fn all() -> AvailableTools {
        let selection = Selection::default().into();
        AvailableTools::new(Catalogue::new().index(), &selection, Environment::Live)
    }

    fn rendered(name: &str, arguments: Value) -> Result<String, String> {
        let result = get_prompt(name, arguments.as_object(), &all())
            .map_err(|error| error.message.to_string())?;
        let text = serde_json::to_value(&result.messages[0].content).unwrap();
        Ok(text["text"].as_str().unwrap().to_owned())
    }

    #[test]
    fn each_names_tools_that_exist_and_carries_its_arguments() {
        let catalogue = Catalogue::new();
        for job in &PROMPTS {
            let arguments: JsonObject = job
                .arguments
                .iter()
                .map(|argument| (argument.name.to_owned(), json!(format!("<{}>", argument.name))))
                .collect();
            let text = rendered(job.name, Value::Object(arguments)).unwrap();
            for argument in job.arguments {
                assert!(text.contains(&format!("<{}>", argument.name)), "{}: {text}", job.name);
            }
            let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
            let named: BTreeSet<&str> =
                words.filter(|word| catalogue.get(word).is_some()).collect();
            let tools: BTreeSet<&str> = job.tools.iter().map(|tool| tool.as_str()).collect();
            assert_eq!(tools, named, "{}", job.name);
            assert!(tools.len() >= 3, "{}: {tools:?}", job.name);
            for word in text.split(|c: char| !(c.is_ascii_lowercase() || c == '_')) {
                let verb =
                    ["get_call", "list_", "create_", "set_agent", "search_", "purchase_", "place_"];
                if verb.iter().any(|verb| word.starts_with(verb)) {
                    assert!(catalogue.get(word).is_some(), "{}: {word}", job.name);
                }
            }
        }
    }

    #[test]
    fn missing_arguments_leave_no_text() {
        let text = rendered(
            "appointment_confirmation",
            json!({"to": "+14155550100", "person": "Sam", "appointment": "Tuesday, {to}"}),
        )
        .unwrap();
        assert!(text.starts_with(
            "Confirm an appointment by phone.\nCall Sam at +14155550100. The appointment: Tuesday, {to}.\nSteps:"
        ), "{text}");
        assert!(text.contains("{\"confirmed\": \"boolean\""));
    }

    #[test]
    fn bad_arguments_are_named() {
        for (name, arguments, problem) in [
            ("nothing", json!({}), "there is no prompt `nothing`; there are: call_list"),
            ("receptionist", json!({}), "`business` is needed, as text"),
            ("receptionist", json!({"business": 1}), "`business` is needed, as text"),
            ("receptionist", json!({"business": "x", "color": "y"}), "unknown argument `color`"),
        ] {
            let message = rendered(name, arguments).unwrap_err();
            assert!(message.starts_with(problem), "{message}");
        }
    }
}
