//! What is published beside the program says the same as the program: one version, one way to start
//! it, and links that decode to what `install` writes.
//!
//! After a change, `UPDATE_LINKS=1 cargo test --test it packaging` writes packaging/first_screen/links.json anew.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use callingbox_mcp::cli::Cli;
use callingbox_mcp::config::KeySource;
use callingbox_mcp::install::{ClientApp, KeyDelivery, ServerEntry};
use clap::{CommandFactory, Parser};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn file(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn json_file(path: &str) -> Value {
    serde_json::from_str(&file(path)).unwrap()
}

/// The registry's entry of this version, as `packaging/pack.py` fills it in.
fn server() -> Value {
    let text = file("packaging/server.json");
    assert!(!text.contains(VERSION), "the version is in Cargo.toml alone");
    serde_json::from_str(&text.replace("${version}", VERSION)).unwrap()
}

/// The targets for which programs are published.
fn platforms() -> Vec<Value> {
    json_file("packaging/platforms.json").as_array().unwrap().clone()
}

#[test]
fn the_registry_names_a_bundle_for_each_platform_that_has_one() {
    let server = server();
    assert_eq!(server["version"], VERSION);
    let mut named: Vec<String> = Vec::new();
    for package in server["packages"].as_array().unwrap() {
        let identifier = package["identifier"].as_str().unwrap();
        match package["registryType"].as_str().unwrap() {
            "oci" => assert!(identifier.ends_with(&format!(":{VERSION}")), "{identifier}"),
            _ => assert_eq!(package["version"], VERSION, "{identifier}"),
        }
        if package["registryType"] == "mcpb" {
            let start = format!(
                "{}/releases/download/v{VERSION}/callingbox-mcp-{VERSION}-",
                env!("CARGO_PKG_REPOSITORY")
            );
            let rest = identifier.strip_prefix(&start).unwrap();
            named.push(rest.strip_suffix(".mcpb").unwrap().to_owned());
        }
    }
    let mut packed: Vec<String> = platforms()
        .iter()
        .filter_map(|platform| Some(platform["bundle"].as_str()?.to_owned()))
        .collect();
    named.sort_unstable();
    packed.sort_unstable();
    assert_eq!(named, packed);
}

/// What `cargo binstall` downloads for these targets is an archive that `packaging/pack.py` makes.
#[test]
fn cargo_binstall_finds_an_archive_of_each_platform() {
    let cargo: toml::Table = toml::from_str(&file("Cargo.toml")).unwrap();
    let binstall = &cargo["package"]["metadata"]["binstall"];
    let mut found: Vec<String> = Vec::new();
    for (host, archive) in [
        ("x86_64-unknown-linux-gnu", "x86_64-unknown-linux-gnu.tar.gz"),
        ("aarch64-unknown-linux-gnu", "aarch64-unknown-linux-gnu.tar.gz"),
        ("x86_64-unknown-linux-musl", "x86_64-unknown-linux-musl.tar.gz"),
        ("aarch64-unknown-linux-musl", "aarch64-unknown-linux-musl.tar.gz"),
        ("x86_64-pc-windows-msvc", "x86_64-pc-windows-gnu.zip"),
        ("x86_64-pc-windows-gnu", "x86_64-pc-windows-gnu.zip"),
        ("aarch64-apple-darwin", "universal-apple-darwin.tar.gz"),
        ("x86_64-apple-darwin", "universal-apple-darwin.tar.gz"),
    ] {
        let own = binstall["overrides"].get(host);
        let value = |key: &str| {
            let value = own.and_then(|own| own.get(key)).unwrap_or(&binstall[key]);
            value.as_str().unwrap().to_owned()
        };
        let url = value("pkg-url")
            .replace("{ repo }", env!("CARGO_PKG_REPOSITORY"))
            .replace("{ version }", VERSION)
            .replace("{ name }", env!("CARGO_PKG_NAME"))
            .replace("{ target }", host);
        let expected = format!(
            "{}/releases/download/v{VERSION}/callingbox-mcp-{VERSION}-{archive}",
            env!("CARGO_PKG_REPOSITORY")
        );
        assert_eq!(url, expected);
        assert_eq!(value("pkg-fmt"), if archive.ends_with(".zip") { "zip" } else { "tgz" });
        found.push(archive.split_once('.').unwrap().0.to_owned());
    }
    for platform in platforms() {
        let target = platform["target"].as_str().unwrap();
        assert!(found.iter().any(|archive| archive == target), "{target}");
    }
}

/// A tag can be moved to other code; a commit cannot.
#[test]
fn every_action_of_a_workflow_is_pinned_by_commit() {
    let mut pinned = 0;
    for name in ["ci", "release"] {
        for line in file(&format!(".github/workflows/{name}.yml")).lines() {
            let Some((_, action)) = line.split_once("uses: ") else { continue };
            let (_, version) = action.split_once('@').unwrap();
            let (commit, tag) = version.split_once(" # v").unwrap_or_else(|| panic!("{line}"));
            assert!(
                commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{line}"
            );
            assert!(tag.split('.').all(|number| number.parse::<u32>().is_ok()), "{line}");
            pinned += 1;
        }
    }
    assert!(pinned > 10, "{pinned}");
}

/// Whether the program knows this variable, by its command line or by its documentation there.
fn is_known(variable: &str) -> bool {
    let command = Cli::command();
    let by_clap = command
        .get_arguments()
        .any(|argument| argument.get_env().is_some_and(|name| name == variable));
    let help = Cli::command().render_long_help().to_string();
    by_clap || help.contains(variable)
}

#[test]
fn every_variable_of_a_manifest_is_one_of_the_program() {
    assert!(!is_known("CALLINGBOX_MCP_NO_SUCH_VARIABLE"));
    let bundle = json_file("packaging/mcpb/manifest.json");
    let questions = bundle["user_config"].as_object().unwrap();
    let env = bundle["server"]["mcp_config"]["env"].as_object().unwrap();
    let mut asked: Vec<String> = Vec::new();
    for (variable, value) in env {
        assert!(is_known(variable), "{variable}");
        let question = value.as_str().unwrap();
        let question = question.strip_prefix("${user_config.").unwrap().strip_suffix('}').unwrap();
        // Without a default a client may leave the placeholder in.
        assert!(questions[question].get("default").is_some(), "{question}");
        asked.push(question.to_owned());
    }
    assert_eq!(asked, questions.keys().cloned().collect::<Vec<_>>());
    let api_key = &questions["api_key"];
    assert_eq!((&api_key["sensitive"], &api_key["required"]), (&json!(true), &json!(false)));

    for package in server()["packages"].as_array().unwrap() {
        for variable in package["environmentVariables"].as_array().into_iter().flatten() {
            let name = variable["name"].as_str().unwrap();
            assert!(is_known(name), "{name}");
            assert_eq!(variable["isSecret"] == true, name == "CALLINGBOX_API_KEY", "{name}");
        }
    }
}

/// The values of a setting of a unit, in order.
fn settings<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    let prefix = format!("{name}=");
    unit.lines().filter_map(|line| line.strip_prefix(prefix.as_str())).collect()
}

/// The rest of the only line of a container file that begins with this instruction.
fn instruction<'a>(text: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name} ");
    let found: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix(prefix.as_str())).collect();
    assert_eq!(found.len(), 1, "{name}");
    found[0]
}

/// A command line of the server over HTTP.
fn http(words: &[&str]) -> callingbox_mcp::cli::HttpArgs {
    let words = words.iter().map(|word| match *word {
        "/usr/local/bin/callingbox-mcp" => "callingbox-mcp",
        word => word,
    });
    match Cli::try_parse_from(words).unwrap().command {
        Some(callingbox_mcp::cli::Command::Http(http)) => *http,
        other => panic!("{other:?}"),
    }
}

/// Whether `http` knows this variable.
fn is_known_to_http(variable: &str) -> bool {
    let command = Cli::command();
    let http = command.find_subcommand("http").unwrap();
    http.get_arguments().any(|argument| argument.get_env().is_some_and(|name| name == variable))
        || http.clone().render_long_help().to_string().contains(variable)
        || is_known(variable)
}

#[test]
fn the_container_starts_asks_for_its_health_and_opens_its_ports() {
    let text = file("packaging/container/Containerfile");
    let (_, last) = text.rsplit_once("\nFROM ").unwrap();
    // There is no shell in the last stage: commands are lists of words.
    let words = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap();
    let entry = words(instruction(last, "ENTRYPOINT"));
    let command: Vec<String> =
        entry.iter().cloned().chain(words(instruction(last, "CMD"))).collect();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let http = http(&command);
    let ports = [http.listen, http.admin_listen.unwrap()].map(|address| {
        assert!(address.ip().is_unspecified(), "{address}");
        address.port()
    });
    let exposed: Vec<u16> =
        instruction(last, "EXPOSE").split(' ').map(|port| port.parse().unwrap()).collect();
    assert_eq!(exposed, ports);

    let (_, check) = instruction(last, "HEALTHCHECK").split_once(" CMD ").unwrap();
    let check = words(check);
    assert_eq!(check[0], entry[0]);
    let check = ["callingbox-mcp".to_owned()].into_iter().chain(check.into_iter().skip(1));
    let url = match Cli::try_parse_from(check).unwrap().command {
        Some(callingbox_mcp::cli::Command::Healthcheck(check)) => check.url,
        other => panic!("{other:?}"),
    };
    assert_eq!((url.port(), url.path()), (Some(ports[1]), "/healthz"));

    let (user, group) = instruction(last, "USER").split_once(':').unwrap();
    assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0);
    let state = words(instruction(last, "VOLUME"));
    assert_eq!(state, ["/var/lib/callingbox-mcp"]);
    let variables: Vec<(&str, &str)> =
        instruction(last, "ENV").split(' ').map(|pair| pair.split_once('=').unwrap()).collect();
    assert!(variables.contains(&("XDG_DATA_HOME", "/var/lib")));
    for (name, _) in &variables {
        assert!(name.starts_with("XDG_") || is_known_to_http(name), "{name}");
    }
    // Reachable from outside, so callers must show who they are.
    assert!(variables.contains(&("CALLINGBOX_MCP_AUTH", "key")));
    // Each processor has a stage that copies the program from where packaging/build.sh leaves it.
    assert_eq!(last.lines().next(), Some("${TARGETARCH}"));
    let programs: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("COPY --chmod=755 ")?.split_once("/callingbox-mcp "))
        .map(|(target, to)| {
            assert_eq!(to, entry[0]);
            target
        })
        .collect();
    assert_eq!(programs, ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]);
    for target in programs {
        assert!(platforms().iter().any(|platform| platform["target"] == target), "{target}");
    }
    let label = instruction(last, "LABEL");
    let name = &server()["name"];
    assert_eq!(label, format!("io.modelcontextprotocol.server.name={name}"));
}

#[test]
fn the_unit_starts_the_server_and_lets_it_end() {
    let unit = file("packaging/systemd/callingbox-mcp.service");
    let [start] = settings(&unit, "ExecStart").try_into().unwrap();
    let words: Vec<&str> = start.split_whitespace().collect();
    let http = http(&words);
    assert!(http.listen.ip().is_loopback() && http.admin_listen.unwrap().ip().is_loopback());
    let [stop] = settings(&unit, "TimeoutStopSec").try_into().unwrap();
    // The last connections have 2 s, traces 2 s more.
    assert!(stop.parse::<u64>().unwrap() > http.grace + 4, "{stop}");
    let variables: Vec<(&str, &str)> = settings(&unit, "Environment")
        .iter()
        .flat_map(|pairs| pairs.split(' '))
        .map(|pair| pair.split_once('=').unwrap())
        .collect();
    for (name, _) in &variables {
        assert!(name.starts_with("XDG_") || is_known_to_http(name), "{name}");
    }
    let [credential] = settings(&unit, "LoadCredential").try_into().unwrap();
    let (name, _) = credential.split_once(':').unwrap();
    assert!(variables.contains(&("CALLINGBOX_API_KEY_FILE", &format!("%d/{name}"))));
    let [state] = settings(&unit, "StateDirectory").try_into().unwrap();
    assert!(
        variables.contains(&("CALLINGBOX_MCP_TOKENS", &format!("/var/lib/{state}/tokens.toml")))
    );
    assert!(variables.contains(&("XDG_DATA_HOME", "/var/lib")));
}

/// Needs the registry's own schema of 2025-12-11, which is in no package and not in this
/// repository, and the test after this one holds its rules as far as they concern this file.
///
/// `CALLINGBOX_TEST_SERVER_SCHEMA=server.schema.json cargo test --test it packaging -- --ignored`
#[test]
#[ignore = "needs the registry's schema, from the address that server.json names"]
fn the_registry_entry_matches_its_schema() {
    let path = std::env::var("CALLINGBOX_TEST_SERVER_SCHEMA").unwrap();
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut server = server();
    assert_eq!(schema["$id"], server["$schema"]);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problems = |server: &Value| -> Vec<String> {
        validator.iter_errors(server).map(|error| error.to_string()).collect()
    };
    assert_eq!(problems(&server), [""; 0]);
    server["version"] = json!(7);
    assert_ne!(problems(&server), [""; 0]);
}

/// The rules of the registry's schema of 2025-12-11 that concern this file, and no more.
#[test]
fn the_registry_entry_has_what_its_schema_demands() {
    let server = server();
    let schema = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json";
    assert_eq!(server["$schema"], schema);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        keys(&server),
        ["$schema", "name", "title", "description", "version", "repository", "packages"]
    );
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let name = text(&server["name"]);
    let (space, local) = name.split_once('/').unwrap();
    let fits = |text: &str, more: &str| {
        text.chars().all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
    };
    assert!(!space.is_empty() && fits(space, ".-") && !local.is_empty() && fits(local, "._-"));
    assert!((1..=100).contains(&text(&server["description"]).chars().count()));
    assert!((1..=100).contains(&text(&server["title"]).chars().count()));
    assert_eq!(keys(&server["repository"]), ["url", "source"]);
    let packages = server["packages"].as_array().unwrap();
    let types: Vec<_> = packages.iter().map(|package| text(&package["registryType"])).collect();
    assert_eq!(types, ["npm", "pypi", "mcpb", "mcpb", "mcpb", "oci", "cargo"]);
    for package in packages {
        assert!(!text(&package["identifier"]).is_empty());
        assert_eq!(package["transport"], json!({"type": "stdio"}));
        match package["registryType"].as_str().unwrap() {
            // The registry wants "mcp" in the address of a bundle.
            "mcpb" => assert!(text(&package["identifier"]).contains("mcp")),
            "oci" => {
                let arguments = json!([{"type": "positional", "value": "stdio"}]);
                assert_eq!(package["packageArguments"], arguments);
            }
            _ => assert_eq!(package["identifier"], env!("CARGO_PKG_NAME")),
        }
    }
}

/// What a link makes the client write: what `install` writes, with another way to start the program.
fn entry(client: ClientApp, sandbox: bool, start: &[&str]) -> (Value, Option<Value>) {
    let source = Some(&KeySource::EnvVar);
    let mut args: Vec<String> = start[1..].iter().copied().map(str::to_owned).collect();
    args.push("stdio".to_owned());
    if sandbox {
        args.push("--sandbox".to_owned());
    }
    ServerEntry::Stdio {
        command: start[0].to_owned(),
        args,
        key: KeyDelivery::choose(client, sandbox, source, "unused".as_ref()),
        base_url: None,
    }
    .entry(client)
    .unwrap()
}

/// Spaces as %20: VS Code does not take a plus for one.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn cursor(name: &str, sandbox: bool, start: &[&str]) -> String {
    let (entry, _) = entry(ClientApp::Cursor, sandbox, start);
    let config = encoded(&STANDARD.encode(entry.to_string()));
    format!("https://cursor.com/en/install-mcp?name={name}&config={config}")
}

fn vscode(name: &str, sandbox: bool, start: &[&str]) -> String {
    let (entry, input) = entry(ClientApp::Vscode, sandbox, start);
    let config = encoded(&entry.to_string());
    let inputs = input
        .map(|input| format!("&inputs={}", encoded(&json!([input]).to_string())))
        .unwrap_or_default();
    format!("https://vscode.dev/redirect/mcp/install?name={name}{inputs}&config={config}")
}

/// The one-click links of a state of the first screen: the program on the path, or npx once it is published.
fn links(start: &[&str]) -> Value {
    json!({
        "cursor": cursor("callingbox", false, start),
        "cursor-sandbox": cursor("callingbox-sandbox", true, start),
        "vscode": vscode("callingbox", false, start),
        "vscode-sandbox": vscode("callingbox-sandbox", true, start),
    })
}

#[test]
fn the_links_are_those_of_the_code() {
    let links = json!({
        "source": links(&["callingbox-mcp"]),
        "released": links(&["npx", "-y", "callingbox-mcp"]),
    });
    if std::env::var_os("UPDATE_LINKS").is_some() {
        let path = format!("{}/packaging/first_screen/links.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, serde_json::to_string_pretty(&links).unwrap() + "\n").unwrap();
    }
    assert_eq!(json_file("packaging/first_screen/links.json"), links);
}

/// The parameters of a link, with what the client takes for its entry.
fn decoded(link: &Value) -> Value {
    let (place, query) = link.as_str().unwrap().split_once('?').unwrap();
    let mut decoded = json!({ "place": place });
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap();
        let value = percent_decode_str(value).decode_utf8().unwrap().into_owned();
        decoded[key] = match (key, place) {
            ("name", _) => value.into(),
            (_, "https://cursor.com/en/install-mcp") => {
                serde_json::from_slice(&STANDARD.decode(value).unwrap()).unwrap()
            }
            ("config" | "inputs", "https://vscode.dev/redirect/mcp/install") => {
                serde_json::from_str(&value).unwrap()
            }
            other => panic!("{other:?}"),
        };
    }
    decoded
}

#[test]
fn the_links_decode_to_what_a_client_expects() {
    let links = json_file("packaging/first_screen/links.json");
    let (cursor, vscode) =
        ("https://cursor.com/en/install-mcp", "https://vscode.dev/redirect/mcp/install");
    for (state, command, first) in
        [("source", "callingbox-mcp", vec![]), ("released", "npx", vec!["-y", "callingbox-mcp"])]
    {
        let args = [first.clone(), vec!["stdio"]].concat();
        let sandbox_args = [first, vec!["stdio", "--sandbox"]].concat();
        let links = links[state].as_object().unwrap();
        assert_eq!(
            links.values().map(decoded).collect::<Vec<_>>(),
            [
                json!({"place": cursor, "name": "callingbox", "config": {
                    "command": command, "args": args,
                    "env": {"CALLINGBOX_API_KEY": "${env:CALLINGBOX_API_KEY}"}}}),
                json!({"place": cursor, "name": "callingbox-sandbox", "config": {
                    "command": command, "args": sandbox_args}}),
                json!({"place": vscode, "name": "callingbox",
                    "inputs": [{"type": "promptString", "id": "callingbox-api-key",
                        "description": "CallingBox API key", "password": true}],
                    "config": {"type": "stdio", "command": command, "args": args,
                        "env": {"CALLINGBOX_API_KEY": "${input:callingbox-api-key}"}}}),
                json!({"place": vscode, "name": "callingbox-sandbox", "config": {
                    "type": "stdio", "command": command, "args": sandbox_args}}),
            ]
        );
    }
}
