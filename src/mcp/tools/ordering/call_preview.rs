//! What a person sees before a call is placed, and what their yes covers: all that the callee, the cost or a third party
//! could notice. It does not know how the person is asked.

use serde_json::{Map, Value, json};

use crate::batch::preview::agent_fields;
use crate::dialing::order::{DialRequest, describe_call_cost};
use crate::dialing::webhook_hosts::shown_host;
use crate::mcp::confirmation::preview::Preview;
use crate::mcp::reply::error::ToolError;
use crate::mcp::reply::text::one_line;
use crate::mcp::request::context::ToolContext;
use callingbox::{Agent, CallCreate, E164};

/// The maximum length of each text in a preview, in characters: the maximum of the arguments.
const MAX_TEXT_CHARS: usize = 32_768;

/// The preview of a call by its agent as it is now. The local time is shown and not covered.
///
/// # Errors
/// The agent cannot be read.
pub(super) async fn preview_call(
    cx: &ToolContext,
    request: &DialRequest,
    call: &CallCreate,
    local_times: &[String],
) -> Result<Preview, ToolError> {
    let agent = cx.account.api()?.get_agent(&call.agent_id).await?;
    let suffix = cx.account.environment().order_suffix();
    let title = format!("Place a phone call{suffix}?");
    let disclosure = &cx.account.dialer()?.rules().disclosure;
    let reminder = disclosure.decide(&agent, call.instructions.as_deref());
    let fields = preview_fields(request, call, &agent, reminder.reminder());
    let covered = covered_settings(&agent).to_string();
    Ok(Preview::new(title, fields, covered).with_local_times(local_times))
}

/// Each fact to show. Destructures without `..`, so that the author of a new field decides here whether it is shown.
fn preview_fields(
    request: &DialRequest,
    call: &CallCreate,
    agent: &Agent,
    reminder: Option<&str>,
) -> [(&'static str, Option<String>); 16] {
    let DialRequest {
        order: _,
        caller: _,
        idempotency_key: _,
        allow_repeat,
        attempt: _,
        disclosing_instructions,
        metadata_source: _,
    } = request;
    let CallCreate { agent_id: _, to, from_number, instructions, context, webhook_url, metadata } =
        call;
    let text = |text: &str| one_line(text, MAX_TEXT_CHARS);
    let object = |object: &Option<Map<String, Value>>| {
        let object = object.as_ref().filter(|object| !object.is_empty())?;
        Some(text(&Value::Object(object.clone()).to_string()))
    };
    let from = from_number.as_ref().or_else(|| primary_number(agent));
    let task = disclosing_instructions.as_deref().or(instructions.as_deref());
    let task = task.or(agent.instructions.as_deref());
    let events = webhook_url.as_deref().or(agent.webhook_url.as_deref());
    let [name, persona, language, voice, machine, results, tools] = agent_fields(agent);
    let repeat = "rings again, even if this call was placed a moment ago";
    [
        ("To", Some(to.as_str().to_owned())),
        ("From", Some(from.map_or("the agent's number", E164::as_str).to_owned())),
        name,
        persona,
        language,
        voice,
        machine,
        ("Task", Some(text(task.unwrap_or("none given")))),
        ("Saying that an AI calls", reminder.map(str::to_owned)),
        ("Facts it is given", object(context)),
        results,
        tools,
        ("Data stored with the call", object(metadata)),
        ("Events go to", events.map(shown_host)),
        ("Repeat", allow_repeat.then(|| repeat.to_owned())),
        ("Cost", Some(describe_call_cost())),
    ]
}

/// The number from which the agent calls if the call names none.
pub(in crate::mcp::tools) fn primary_number(agent: &Agent) -> Option<&E164> {
    let (primary, numbers) = (agent.primary_number_id.as_ref()?, agent.numbers.as_ref()?);
    numbers.iter().find(|number| number.id == *primary)?.e164.as_ref()
}

/// The agent's settings that a yes covers in full, although only a part of them is shown. Fields that this program does
/// not know may be noticed too.
fn covered_settings(agent: &Agent) -> Value {
    let Agent {
        id,
        org_id: _,
        user_id: _,
        name: _,
        r#type,
        persona: _,
        instructions: _,
        voice,
        language,
        returns,
        tools,
        webhook_url,
        voicemail_action,
        primary_number_id,
        archived_at,
        created_at: _,
        updated_at: _,
        numbers: _,
        extra,
    } = agent;
    json!([
        id,
        r#type,
        voice,
        language,
        returns,
        tools,
        webhook_url,
        voicemail_action,
        primary_number_id,
        archived_at,
        extra
    ])
}
