//! Where each client keeps its servers, on each operating system, and what moves the file.

use std::path::{Path, PathBuf};

use callingbox_mcp::install::{ClientApp, InstallScope, Machine};
use callingbox_mcp::system::Os;

use crate::install::tables::{file_of, machine, stdio};

#[test]
fn every_client_has_its_place_on_every_system() {
    let root = Path::new("/r");
    let user = |client: ClientApp, os| {
        let path = file_of(client, InstallScope::User, &machine(os, root)).path;
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
        .map(|client| client.files(InstallScope::Project, &machine).ok())
        .map(|files| files.map(|files| files[0].path.to_str().unwrap().to_owned()))
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
        ..machine(Os::Linux, Path::new("/r"))
    };
    for (client, path) in
        [(ClientApp::ClaudeCode, "/c/.claude.json"), (ClientApp::Codex, "/x/config.toml")]
    {
        assert_eq!(file_of(client, InstallScope::User, &moved).path, Path::new(path));
    }
}

/// As OpenClaw's `resolveConfigPath` does: the file, else the folder, else the home folder; each may begin with `~`.
#[test]
fn openclaw_has_three_variables_for_its_file() {
    for (home, folder, file, expected) in [
        (None, None, None, "/r/home/.openclaw/openclaw.json"),
        (Some("/h"), None, None, "/h/.openclaw/openclaw.json"),
        (Some("~/claw"), None, None, "/r/home/claw/.openclaw/openclaw.json"),
        (None, Some("/s"), None, "/s/openclaw.json"),
        (Some("/h"), Some("/s"), None, "/s/openclaw.json"),
        (Some("/h"), Some("~/.openclaw-work"), None, "/h/.openclaw-work/openclaw.json"),
        (Some("/h"), Some("/s"), Some("/o/claw.json5"), "/o/claw.json5"),
        (None, None, Some("~/claw.json5"), "/r/home/claw.json5"),
    ] {
        let moved = Machine {
            openclaw_home: home.map(PathBuf::from),
            openclaw_state_dir: folder.map(PathBuf::from),
            openclaw_config_path: file.map(PathBuf::from),
            ..machine(Os::Linux, Path::new("/r"))
        };
        let path = file_of(ClientApp::Openclaw, InstallScope::User, &moved).path;
        assert_eq!(path, Path::new(expected), "{home:?} {folder:?} {file:?}");
    }
}

/// The files of Claude Desktop on Windows, from the home folder.
fn claude_desktop_paths(machine: &Machine) -> Vec<String> {
    let files = ClientApp::ClaudeDesktop.files(InstallScope::User, machine).unwrap();
    let paths = files.iter().map(|file| file.path.strip_prefix(&machine.system.home).unwrap());
    paths.map(|path| path.to_str().unwrap().to_owned()).collect()
}

#[test]
fn claude_desktop_from_the_store_reads_the_folder_of_its_package() {
    let usual = "AppData/Roaming/Claude/claude_desktop_config.json";
    let package = "AppData/Local/Packages/Claude_pzs8sxrjxfjjc";
    let packaged = format!("{package}/LocalCache/Roaming/Claude/claude_desktop_config.json");
    let root = tempfile::tempdir().unwrap();
    let windows = machine(Os::Windows, root.path());
    let make = |folder: &str| std::fs::create_dir_all(windows.system.home.join(folder)).unwrap();
    let is_present = || ClientApp::ClaudeDesktop.is_present(&windows);
    assert_eq!((claude_desktop_paths(&windows), is_present()), (vec![usual.to_owned()], false));
    // Another app of a similar name.
    make("AppData/Local/Packages/ClaudeReader_pzs8sxrjxfjjc");
    assert_eq!((claude_desktop_paths(&windows), is_present()), (vec![usual.to_owned()], false));
    make(package);
    assert_eq!((claude_desktop_paths(&windows), is_present()), (vec![packaged.clone()], true));
    make("AppData/Roaming/Claude");
    assert_eq!(claude_desktop_paths(&windows), [packaged, usual.to_owned()]);

    let server = stdio(ClientApp::ClaudeDesktop, Os::Windows);
    for file in ClientApp::ClaudeDesktop.files(InstallScope::User, &windows).unwrap() {
        file.plan_install("callingbox", &server).unwrap().apply(jiff::Timestamp::now()).unwrap();
        assert_eq!(file.read_entries().unwrap()[0].0, "callingbox");
    }
    // The other systems have no packages.
    let linux = machine(Os::Linux, root.path());
    assert_eq!(claude_desktop_paths(&linux), [".config/Claude/claude_desktop_config.json"]);
}
