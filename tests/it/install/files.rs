//! What a hostile or unlucky file system does: nothing is lost, nothing is half written.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use callingbox_mcp::install::{self, ClientApp, InstallError, InstallScope, Os};

use crate::install::tables::{machine, stdio};

fn now() -> jiff::Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_file_that_cannot_be_edited_is_left_as_it_is() {
    let json: &[&[u8]] = &[
        b"{",
        b"{\"mcpServers\": {\"a\": }}",
        b"not json",
        b"[]",
        b"{\"mcpServers\": [], \"servers\": [], \"mcp\": []}",
        b"{\"mcpServers\": {\"callingbox\": 1}, \"servers\": {\"callingbox\": 1}, \"mcp\": {\"servers\": {\"callingbox\": 1}}}",
        b"{\"mcpServers\": {}, \"mcpServers\": {}, \"servers\": {}, \"servers\": {}, \"mcp\": {}, \"mcp\": {}}",
        b"\xff\xfe{\0}\0",
        b"{\"a\": \"\xc3\x28\"}",
    ];
    let toml: &[&[u8]] = &[b"a = ", b"[mcp_servers", b"mcp_servers = 1", b"a = 1\na = 2", b"\xff"];
    for client in ClientApp::ALL {
        let texts = if client == ClientApp::Codex { toml } else { json };
        for text in texts {
            let root = tempfile::tempdir().unwrap();
            let machine = machine(Os::Linux, root.path());
            let path = client.file(InstallScope::User, &machine).unwrap();
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            let server = stdio(client, Os::Linux);
            let error =
                install::plan_install(client, InstallScope::User, &machine, "callingbox", &server)
                    .unwrap_err();
            assert!(
                matches!(error, InstallError::Unparsable { .. } | InstallError::Unexpected { .. }),
                "{client}: {error}"
            );
            assert_eq!(&std::fs::read(&path).unwrap(), text);
            assert_eq!(names(path.parent().unwrap()).len(), 1);
        }
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed_to_the_end_of_the_stack() {
    let root = tempfile::tempdir().unwrap();
    let machine = machine(Os::Linux, root.path());
    for (client, text) in [
        (
            ClientApp::Cursor,
            "{\"a\":".to_owned() + &"[".repeat(100_000) + &"]".repeat(100_000) + "}",
        ),
        (ClientApp::Codex, "a = ".to_owned() + &"[".repeat(100_000) + &"]".repeat(100_000)),
    ] {
        let path = client.file(InstallScope::User, &machine).unwrap();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let server = stdio(client, Os::Linux);
        let error =
            install::plan_install(client, InstallScope::User, &machine, "callingbox", &server)
                .unwrap_err();
        assert!(matches!(error, InstallError::Unparsable { .. }), "{error}");
    }
}

#[test]
fn a_file_that_changed_meanwhile_is_not_written_over() {
    let root = tempfile::tempdir().unwrap();
    let machine = machine(Os::Linux, root.path());
    let path = machine.home.join(".cursor").join("mcp.json");
    let server = stdio(ClientApp::Cursor, Os::Linux);
    let plan = install::plan_install(
        ClientApp::Cursor,
        InstallScope::User,
        &machine,
        "callingbox",
        &server,
    )
    .unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "{\"new\": 1}").unwrap();
    let error = plan.apply(now()).unwrap_err();
    assert!(matches!(error, InstallError::ChangedMeanwhile { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"new\": 1}");
    assert_eq!(names(path.parent().unwrap()), ["mcp.json"]);
}

#[test]
fn when_the_backup_cannot_be_made_the_file_stays() {
    let root = tempfile::tempdir().unwrap();
    let machine = machine(Os::Linux, root.path());
    let path = machine.home.join(".cursor").join("mcp.json");
    let folder = path.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(&path, "{}").unwrap();
    let server = stdio(ClientApp::Cursor, Os::Linux);
    let plan = install::plan_install(
        ClientApp::Cursor,
        InstallScope::User,
        &machine,
        "callingbox",
        &server,
    )
    .unwrap();
    // A folder in its place stops root too, whom permissions do not.
    std::fs::create_dir(folder.join("mcp.json.20260102T030405000000Z.bak")).unwrap();
    let error = plan.apply(now()).unwrap_err();
    assert!(matches!(error, InstallError::Io { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
    assert_eq!(names(folder), ["mcp.json", "mcp.json.20260102T030405000000Z.bak"]);
}

#[test]
fn a_folder_that_cannot_be_written_leaves_the_original() {
    let root = tempfile::tempdir().unwrap();
    let machine = machine(Os::Linux, root.path());
    let path = machine.home.join(".cursor").join("mcp.json");
    let folder = path.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(&path, "{}").unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    let server = stdio(ClientApp::Cursor, Os::Linux);
    let plan = install::plan_install(
        ClientApp::Cursor,
        InstallScope::User,
        &machine,
        "callingbox",
        &server,
    )
    .unwrap();
    let done = plan.apply(now());
    let writable = std::fs::write(folder.join("probe"), "").is_ok();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Root writes where nobody may.
    if !writable {
        assert!(matches!(done, Err(InstallError::Io { .. })), "{done:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
        assert_eq!(names(folder), ["mcp.json"]);
    }
}

#[test]
fn a_symbolic_link_and_the_permissions_behind_it_stay() {
    let root = tempfile::tempdir().unwrap();
    let machine = machine(Os::Linux, root.path());
    let path = machine.home.join(".cursor").join("mcp.json");
    let dotfiles = root.path().join("dotfiles");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::create_dir(&dotfiles).unwrap();
    let real = dotfiles.join("cursor.json");
    std::fs::write(&real, "{}").unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&real, &path).unwrap();
    let server = stdio(ClientApp::Cursor, Os::Linux);
    install::plan_install(ClientApp::Cursor, InstallScope::User, &machine, "callingbox", &server)
        .unwrap()
        .apply(now())
        .unwrap();
    assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(std::fs::read_to_string(&real).unwrap().contains("callingbox"));
    let modes: Vec<_> = names(&dotfiles)
        .iter()
        .map(|name| {
            let mode = std::fs::metadata(dotfiles.join(name)).unwrap().permissions().mode();
            (name.clone(), mode & 0o777)
        })
        .collect();
    let backup = "cursor.json.20260102T030405000000Z.bak".to_owned();
    assert_eq!(modes, [("cursor.json".to_owned(), 0o600), (backup, 0o600)]);
}
