//! Any configuration: only the entry changes, and its removal leaves no trace.

use callingbox_mcp::install::{ClientApp, InstallScope};
use callingbox_mcp::system::Os;
use jsonc_parser::ParseOptions;
use jsonc_parser::cst::CstRootNode;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::install::tables::{file_of, machine, stdio};

/// Any JSON, with keys that are often those of a configuration.
fn json(depth: u32) -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(depth, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object(inner).prop_map(Value::from),
        ]
    })
    .boxed()
}

fn object(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let key = prop_oneof![
        Just("mcpServers".to_owned()),
        Just("env".to_owned()),
        Just("inputs".to_owned()),
        "\\PC{0,6}",
    ];
    prop::collection::vec((key, values), 0..4).prop_map(|pairs| pairs.into_iter().collect())
}

/// A configuration: any object, with servers that are an object or null.
fn configuration() -> impl Strategy<Value = Value> {
    let servers = prop_oneof![object(json(2)).prop_map(Value::from), Just(Value::Null)];
    (object(json(3)), prop::option::of(servers)).prop_map(|(mut file, servers)| {
        file.remove("mcpServers");
        if let Some(servers) = servers {
            file.insert("mcpServers".to_owned(), servers);
        }
        file.into()
    })
}

/// A text as some editor would have laid it out, with comments.
fn laid_out() -> impl Strategy<Value = (Value, String)> {
    (configuration(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(value, pretty, crlf, comments)| {
            let mut text = if pretty {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                value.to_string()
            };
            if comments {
                text = format!("// first\n/* \"mcpServers\": {{ */\n{text} // last\n");
            }
            (value, if crlf { text.replace('\n', "\r\n") } else { text })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_the_entry_changes_and_its_removal_leaves_no_trace((before, text) in laid_out()) {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(Os::Linux, root.path());
        let (client, scope) = (ClientApp::Cursor, InstallScope::User);
        let path = file_of(client, scope, &machine).path;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
        let server = stdio(client, Os::Linux);
        let plan = file_of(client, scope, &machine).plan_install("callingbox", &server).unwrap();
        plan.apply(jiff::Timestamp::now()).unwrap();

        let written = std::fs::read_to_string(&path).unwrap();
        let after: Value = CstRootNode::parse(&written, &ParseOptions::default()).unwrap().to_serde_value().unwrap();
        let mut expected = before;
        if expected.get("mcpServers").is_none_or(Value::is_null) {
            expected["mcpServers"] = json!({});
        }
        expected["mcpServers"]["callingbox"] = server.entry(client).unwrap().0;
        prop_assert_eq!(after, expected);
        prop_assert_eq!(written.contains("// first"), text.contains("// first"));

        let again = file_of(client, scope, &machine).plan_install("callingbox", &server).unwrap();
        prop_assert!(again.is_done());
        let plan = file_of(client, scope, &machine).plan_uninstall("callingbox").unwrap();
        plan.apply(jiff::Timestamp::now()).unwrap();
        prop_assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn any_text_is_edited_or_left_unchanged(text in any::<String>(), toml in any::<bool>()) {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(Os::Linux, root.path());
        let client = if toml { ClientApp::Codex } else { ClientApp::Openclaw };
        let path = file_of(client, InstallScope::User, &machine).path;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
        let server = stdio(client, Os::Linux);
        match file_of(client, InstallScope::User, &machine).plan_install("callingbox", &server) {
            Ok(plan) => drop(plan.diff()),
            Err(_) => prop_assert_eq!(std::fs::read_to_string(&path).unwrap(), text),
        }
    }
}
