//! The published catalogue: one file for each tool, exactly as tools/list serves it, and the rules
//! that every tool keeps.
//!
//! After a wanted change: `UPDATE_DOCS=1 INSTA_UPDATE=always cargo test --test it catalogue`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use callingbox_mcp::account::Environment;
use callingbox_mcp::mcp::catalogue::Catalogue;
use callingbox_mcp::mcp::registry::available::AvailableTools;
use callingbox_mcp::mcp::registry::effect::ToolEffect;
use callingbox_mcp::mcp::registry::selection::Selection;
use callingbox_mcp::mcp::tool::ToolEntry;
use callingbox_mcp::toolset::Toolset;
use serde_json::Value;

fn in_repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn served(entry: &ToolEntry) -> Value {
    serde_json::to_value(entry.definition()).unwrap()
}

fn tokens(text: &str) -> usize {
    tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len()
}

/// Compares a generated file with its expected content, or writes it if `UPDATE_DOCS` is set.
fn check_generated(path: &Path, expected: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap();
    assert_eq!(found, expected, "{} is stale: UPDATE_DOCS=1 cargo test writes it", path.display());
}

#[test]
fn each_tool_is_published_as_it_is_served() {
    let catalogue = Catalogue::new();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(in_repo("tools"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for entry in catalogue.iter() {
            insta::assert_json_snapshot!(entry.meta.name, served(entry));
        }
    });
    let names: BTreeSet<String> =
        catalogue.iter().map(|entry| format!("{}.snap", entry.meta.name)).collect();
    let files: BTreeSet<String> = std::fs::read_dir(in_repo("tools"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".snap"))
        .collect();
    assert_eq!(files, names, "tools/ holds exactly the tools there are");
}

/// The most that a model may be shown by default, in tokens: without app-only tools and `_meta`.
const MAX_LIST_TOKENS: usize = 6_700;
const MAX_TOOL_TOKENS: usize = 900;
const MAX_APP_TOOL_TOKENS: usize = 130;

/// What one tool costs, in tokens.
struct TokenCount {
    /// What a model reads.
    model: usize,
    /// The same of a tool that only a view calls.
    app: usize,
    /// What a host reads and no model.
    meta: usize,
}

/// Divides a served tool into what a model or a view reads, and its `_meta`.
fn without_meta(tool: &Value) -> (Value, Option<Value>) {
    let mut tool = tool.clone();
    let meta = tool.as_object_mut().unwrap().shift_remove("_meta");
    (tool, meta)
}

/// Whether a host keeps a served tool from the model.
fn is_app_only(tool: &Value) -> bool {
    tool["_meta"]["ui"]["visibility"] == serde_json::json!(["app"])
}

fn count_tokens(tool: &Value) -> TokenCount {
    let (shown, meta) = without_meta(tool);
    let shown_tokens = tokens(&shown.to_string());
    let (model, app) = if is_app_only(tool) { (0, shown_tokens) } else { (shown_tokens, 0) };
    TokenCount { model, app, meta: meta.map_or(0, |meta| tokens(&meta.to_string())) }
}

/// The message if `count` is above its budget.
fn excess(what: &str, count: usize, max: usize) -> Option<String> {
    let over = count.checked_sub(max).filter(|over| *over > 0)?;
    Some(format!("{what} costs {count} tokens, {over} more than {max}"))
}

#[test]
fn the_list_fits_its_budget_of_tokens() {
    let catalogue = Catalogue::new();
    let mut file = "tool\tmodel\tapp\t_meta\n".to_owned();
    let mut problems = Vec::new();
    for entry in catalogue.iter() {
        let (name, TokenCount { model, app, meta }) =
            (entry.meta.name, count_tokens(&served(entry)));
        problems.extend(excess(name, model, MAX_TOOL_TOKENS));
        problems.extend(excess(&format!("{name}, for views,"), app, MAX_APP_TOOL_TOKENS));
        file.push_str(&format!("{name}\t{model}\t{app}\t{meta}\n"));
    }
    let selection = Selection::default();
    let offered = catalogue.offered(&selection).map(served).filter(|tool| !is_app_only(tool));
    let offered: Vec<Value> = offered.map(|tool| without_meta(&tool).0).collect();
    let total = tokens(&serde_json::json!({"tools": offered}).to_string());
    problems.extend(excess("the default list", total, MAX_LIST_TOKENS));
    check_generated(&in_repo("tools/tokens.tsv"), &file);
    assert_eq!(problems, [""; 0]);
}

#[test]
fn tokens_are_counted_for_whom_they_cost() {
    let tool = |visibility: Value| {
        let meta = serde_json::json!({"ui": {"visibility": visibility}});
        serde_json::json!({"name": "a", "description": "Calls.", "_meta": meta})
    };
    let (shown, meta) = without_meta(&tool(serde_json::json!(["app"])));
    let (shown, meta) = (tokens(&shown.to_string()), tokens(&meta.unwrap().to_string()));
    let counts = |tool: &Value| {
        let TokenCount { model, app, meta } = count_tokens(tool);
        (model, app, meta)
    };
    assert_eq!(counts(&tool(serde_json::json!(["app"]))), (0, shown, meta));
    assert_eq!(counts(&tool(serde_json::json!(["model", "app"]))).0, shown);
    assert_eq!(counts(&serde_json::json!({"name": "a", "description": "Calls."})), (shown, 0, 0));
    assert_eq!(excess("it", 900, 900), None);
    assert_eq!(excess("it", 912, 900).as_deref(), Some("it costs 912 tokens, 12 more than 900"));
}

/// The description of a tool for a caller who is offered these tools.
fn description(tool: &str, selection: Selection, environment: Environment) -> String {
    let catalogue = Catalogue::new();
    let tools = AvailableTools::new(catalogue.index(), &Arc::new(selection), environment);
    catalogue.get(tool).unwrap().definition_for(&tools).description.unwrap().into_owned()
}

fn everything() -> Selection {
    Selection { toolsets: Toolset::ALL.to_vec(), sandbox: true, ..Selection::default() }
}

#[test]
fn only_tools_that_dial_or_cost_money_are_described_differently_in_the_sandbox() {
    let mut differences = Vec::new();
    for entry in Catalogue::new().iter() {
        let [live, sandbox] = [Environment::Live, Environment::Sandbox]
            .map(|environment| description(entry.meta.name, everything(), environment));
        assert_eq!(Some(live.as_str()), entry.definition().description.as_deref());
        if live != sandbox {
            let begins = |text: &str| text.split_inclusive(". ").next().unwrap().trim().to_owned();
            differences.push((entry.meta.name, begins(&live), begins(&sandbox)));
        }
    }
    let expected = [
        (
            "place_call",
            "Rings a real telephone, and an AI agent speaks with the person who answers.",
            "Places a simulated call: no telephone rings and nothing is charged.",
        ),
        (
            "place_calls",
            "Calls up to 500 people with one agent after one yes of the user: real telephones ring, several at a time.",
            "Calls up to 500 people with one agent on the simulator: no telephone rings and nothing is charged.",
        ),
        (
            "purchase_number",
            "Buys a phone number: its price is charged to the account's credit now and each month.",
            "Buys a simulated phone number; only simulated credit is charged.",
        ),
    ];
    let expected =
        expected.map(|(tool, live, sandbox)| (tool, live.to_owned(), sandbox.to_owned()));
    assert_eq!(differences, expected);
}

#[test]
fn a_definition_names_no_tool_that_is_not_offered() {
    let catalogue = Catalogue::new();
    for entry in catalogue.iter().filter(|entry| !entry.meta.card.is_app_only()) {
        let name = entry.meta.name;
        let only =
            Selection { tools: vec![name.to_owned()], sandbox: true, ..Selection::default() };
        let tools = AvailableTools::new(catalogue.index(), &Arc::new(only), Environment::Live);
        let text = serde_json::to_string(&entry.definition_for(&tools)).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        let named: BTreeSet<&str> =
            words.filter(|word| *word != name && catalogue.get(word).is_some()).collect();
        assert_eq!(named, BTreeSet::new(), "{name}");
    }
}

#[test]
fn every_tool_keeps_the_rules() {
    let mut titles = BTreeSet::new();
    let mut names = BTreeSet::new();
    for entry in Catalogue::new().iter() {
        let tool = served(entry);
        let name = tool["name"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{name} is listed twice");
        assert!(titles.insert(tool["title"].as_str().unwrap().to_owned()), "{name}: title");
        assert!(
            name.len() <= 40 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{name}"
        );

        let hints = &tool["annotations"];
        for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
            assert!(hints[hint].is_boolean(), "{name}: {hint}");
        }
        assert_eq!(hints["readOnlyHint"], entry.meta.effect == ToolEffect::Reads, "{name}");
        let reads =
            ["get_", "list_", "search_", "follow_"].iter().any(|verb| name.starts_with(verb));
        assert_eq!(
            entry.meta.effect == ToolEffect::Reads,
            reads,
            "{name}: the verb must say whether the tool reads"
        );
        if matches!(entry.meta.effect, ToolEffect::RingsPhone | ToolEffect::CostsMoney) {
            assert_eq!(hints["destructiveHint"], true, "{name}");
            assert_eq!(hints["idempotentHint"], false, "{name}");
        }

        let description = tool["description"].as_str().unwrap();
        assert!((60..=760).contains(&description.len()), "{name}: {}", description.len());
        assert!(description.ends_with('.'), "{name}");
        for word in description.split(|c: char| !c.is_alphanumeric()) {
            let shouted = word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase());
            assert!(!shouted, "{name} shouts {word}");
        }

        // Only the card reads a tool of the card: neither its answers nor its arguments are described.
        let is_app_only = is_app_only(&tool);
        assert_eq!(tool.get("outputSchema").is_none(), is_app_only, "{name}");
        let sides =
            if is_app_only { &["inputSchema"][..] } else { &["inputSchema", "outputSchema"] };
        for side in sides {
            let schema = &tool[side];
            assert_eq!(schema["type"], "object", "{name} {side}");
            assert!(schema["properties"].is_object(), "{name} {side}");
            for key in ["$schema", "$defs", "$ref", "oneOf", "anyOf", "allOf", "title"] {
                assert!(schema.get(key).is_none(), "{name} {side} has {key}");
            }
            no_nulls(name, schema);
            properties_have_types(name, schema);
            jsonschema::meta::validate(schema).unwrap();
        }
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{name}");
        for (argument, schema) in tool["inputSchema"]["properties"].as_object().unwrap() {
            let described = schema["description"].as_str().unwrap_or_default();
            assert_eq!(described.is_empty(), is_app_only, "{name}: {argument}");
        }
    }
}

/// Every property says what it is, at any depth.
fn properties_have_types(name: &str, schema: &Value) {
    for (property, inner) in schema["properties"].as_object().into_iter().flatten() {
        assert!(inner["type"].is_string(), "{name}: {property} has no type");
        properties_have_types(name, inner);
        properties_have_types(name, &inner["items"]);
    }
}

/// No `null` among types and choices, anywhere in a schema.
fn no_nulls(name: &str, schema: &Value) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == "type" {
                    assert!(value.is_string() || value.is_object(), "{name}: {value}");
                    assert_ne!(value, "null", "{name}");
                }
                no_nulls(name, value);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| no_nulls(name, item)),
        other => assert!(!other.is_null(), "{name}"),
    }
}

#[test]
fn toolsets_are_those_of_the_design() {
    let of = |toolset| -> Vec<&'static str> {
        Catalogue::new().iter().filter(|e| e.meta.toolset == toolset).map(|e| e.meta.name).collect()
    };
    assert_eq!(
        of(Toolset::Calls),
        [
            "place_call",
            "get_call_result",
            "get_call_transcript",
            "list_calls",
            "place_calls",
            "get_batch",
            "cancel_batch",
            "record_opt_out",
            "follow_call",
            "confirm_call"
        ]
    );
    assert_eq!(of(Toolset::Account), ["get_account"]);
    assert_eq!(
        of(Toolset::Agents),
        [
            "list_agents",
            "get_agent",
            "create_agent",
            "update_agent",
            "set_agent_numbers",
            "archive_agent"
        ]
    );
    assert_eq!(of(Toolset::Numbers), ["list_numbers", "search_numbers", "purchase_number"]);
    assert_eq!(of(Toolset::Webhooks).len(), 9);
    assert_eq!(of(Toolset::Sandbox), ["simulate_inbound_call"]);
}
