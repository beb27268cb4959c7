//! Where each client keeps its servers, on each operating system, and what moves the file.

use std::path::Path;

use callingbox_mcp::install::{ClientApp, InstallScope, Machine, Os};
use clap::ValueEnum;

use crate::install::tables::machine;

#[test]
fn every_client_has_its_place_on_every_system() {
    let root = Path::new("/r");
    let user = |client: ClientApp, os| {
        let path = client.file(InstallScope::User, &machine(os, root)).unwrap();
        path.strip_prefix("/r/home").unwrap().to_str().unwrap().to_owned()
    };
    let everywhere = [
        (ClientApp::Cursor, ".cursor/mcp.json"),
        (ClientApp::ClaudeCode, ".claude.json"),
        (ClientApp::Openclaw, ".openclaw/openclaw.json"),
        (ClientApp::Codex, ".codex/config.toml"),
        (ClientApp::Gemini, ".gemini/settings.json"),
        (ClientApp::Windsurf, ".codeium/windsurf/mcp_config.json"),
    ];
    for os in [Os::Linux, Os::MacOs, Os::Windows] {
        for (client, expected) in everywhere {
            assert_eq!(user(client, os), expected, "{os:?}");
        }
    }
    for (os, desktop, vscode) in [
        (Os::Linux, ".config/Claude/claude_desktop_config.json", ".config/Code/User/mcp.json"),
        (
            Os::MacOs,
            "Library/Application Support/Claude/claude_desktop_config.json",
            "Library/Application Support/Code/User/mcp.json",
        ),
        (
            Os::Windows,
            "AppData/Roaming/Claude/claude_desktop_config.json",
            "AppData/Roaming/Code/User/mcp.json",
        ),
    ] {
        assert_eq!(user(ClientApp::ClaudeDesktop, os), desktop);
        assert_eq!(user(ClientApp::Vscode, os), vscode);
    }
}

#[test]
fn a_project_has_its_own_files() {
    let machine = machine(Os::Linux, Path::new("/r"));
    let found: Vec<_> = ClientApp::ALL
        .iter()
        .map(|client| client.file(InstallScope::Project, &machine).ok())
        .map(|path| path.map(|path| path.to_str().unwrap().to_owned()))
        .collect();
    let expected = [
        None,
        Some("/r/project/.cursor/mcp.json"),
        Some("/r/project/.mcp.json"),
        Some("/r/project/.vscode/mcp.json"),
        None,
        Some("/r/project/.codex/config.toml"),
        Some("/r/project/.gemini/settings.json"),
        None,
    ];
    assert_eq!(found, expected.map(|path| path.map(str::to_owned)));
}

#[test]
fn the_environment_moves_a_file() {
    let moved = Machine {
        claude_config_dir: Some("/c".into()),
        codex_home: Some("/x".into()),
        openclaw_config_path: Some("/o/claw.json5".into()),
        ..machine(Os::Linux, Path::new("/r"))
    };
    for (client, path) in [
        (ClientApp::ClaudeCode, "/c/.claude.json"),
        (ClientApp::Codex, "/x/config.toml"),
        (ClientApp::Openclaw, "/o/claw.json5"),
    ] {
        assert_eq!(client.file(InstallScope::User, &moved).unwrap(), Path::new(path));
    }
}

#[test]
fn what_is_typed_is_the_id() {
    for client in ClientApp::ALL {
        assert_eq!(ClientApp::from_str(client.id(), false), Ok(client));
    }
}
