//! Files that cannot be read, written or trusted: nothing is lost, and nothing is half written.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use callingbox_mcp::install::{ClientApp, InstallError, InstallScope};
use callingbox_mcp::system::Os;

use crate::install::tables::{file_of, machine, stdio};

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
            let path = file_of(client, InstallScope::User, &machine).path;
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            let server = stdio(client, Os::Linux);
            let error = file_of(client, InstallScope::User, &machine)
                .plan_install("callingbox", &server)
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
fn deep_nesting_is_refused_before_the_stack_overflows() {
    let root = tempfile::tempdir().unwrap();
    let machine = machine(Os::Linux, root.path());
    for (client, text) in [
        (
            ClientApp::Cursor,
            "{\"a\":".to_owned() + &"[".repeat(100_000) + &"]".repeat(100_000) + "}",
        ),
        (ClientApp::Codex, "a = ".to_owned() + &"[".repeat(100_000) + &"]".repeat(100_000)),
    ] {
        let path = file_of(client, InstallScope::User, &machine).path;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let server = stdio(client, Os::Linux);
        let error = file_of(client, InstallScope::User, &machine)
            .plan_install("callingbox", &server)
            .unwrap_err();
        assert!(matches!(error, InstallError::Unparsable { .. }), "{error}");
    }
}

#[test]
fn a_file_that_changed_meanwhile_is_not_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let machine = machine(Os::Linux, root.path());
    let path = machine.system.home.join(".cursor").join("mcp.json");
    let server = stdio(ClientApp::Cursor, Os::Linux);
    let plan = file_of(ClientApp::Cursor, InstallScope::User, &machine)
        .plan_install("callingbox", &server)
        .unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "{\"new\": 1}").unwrap();
    let error = plan.apply(now()).unwrap_err();
    assert!(matches!(error, InstallError::ChangedMeanwhile { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"new\": 1}");
    assert_eq!(names(path.parent().unwrap()), ["mcp.json"]);
}

#[test]
fn without_a_backup_the_file_is_not_changed() {
    let root = tempfile::tempdir().unwrap();
    let machine = machine(Os::Linux, root.path());
    let path = machine.system.home.join(".cursor").join("mcp.json");
    let folder = path.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(&path, "{}").unwrap();
    let server = stdio(ClientApp::Cursor, Os::Linux);
    let plan = file_of(ClientApp::Cursor, InstallScope::User, &machine)
        .plan_install("callingbox", &server)
        .unwrap();
    // Permissions do not stop root, but a folder in its place does.
    std::fs::create_dir(folder.join("mcp.json.20260102T030405000000Z.bak")).unwrap();
    let error = plan.apply(now()).unwrap_err();
    assert!(matches!(error, InstallError::Io { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
    assert_eq!(names(folder), ["mcp.json", "mcp.json.20260102T030405000000Z.bak"]);
}

#[test]
fn a_folder_that_cannot_be_written_keeps_the_original() {
    let root = tempfile::tempdir().unwrap();
    let machine = machine(Os::Linux, root.path());
    let path = machine.system.home.join(".cursor").join("mcp.json");
    let folder = path.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(&path, "{}").unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    let server = stdio(ClientApp::Cursor, Os::Linux);
    let plan = file_of(ClientApp::Cursor, InstallScope::User, &machine)
        .plan_install("callingbox", &server)
        .unwrap();
    let done = plan.apply(now());
    let writable = std::fs::write(folder.join("probe"), "").is_ok();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Root may write there nevertheless.
    if !writable {
        assert!(matches!(done, Err(InstallError::Io { .. })), "{done:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
        assert_eq!(names(folder), ["mcp.json"]);
    }
}

#[test]
fn a_symbolic_link_and_the_permissions_of_its_target_stay() {
    let root = tempfile::tempdir().unwrap();
    let machine = machine(Os::Linux, root.path());
    let path = machine.system.home.join(".cursor").join("mcp.json");
    let dotfiles = root.path().join("dotfiles");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::create_dir(&dotfiles).unwrap();
    let real = dotfiles.join("cursor.json");
    std::fs::write(&real, "{}").unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&real, &path).unwrap();
    let server = stdio(ClientApp::Cursor, Os::Linux);
    file_of(ClientApp::Cursor, InstallScope::User, &machine)
        .plan_install("callingbox", &server)
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

/// The folder of a project may come from anyone, and so may the links in it.
#[test]
fn a_link_that_leaves_the_project_is_refused() {
    for client in [
        ClientApp::ClaudeCode,
        ClientApp::Cursor,
        ClientApp::Vscode,
        ClientApp::Codex,
        ClientApp::Gemini,
    ] {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(Os::Linux, root.path());
        let outside = root.path().join("outside");
        std::fs::create_dir_all(&machine.project).unwrap();
        std::fs::create_dir(&outside).unwrap();
        let file = file_of(client, InstallScope::Project, &machine);
        let folder = file.path.parent().unwrap().to_owned();
        let server = stdio(client, Os::Linux);
        let plan = || file.plan_install("callingbox", &server);

        // The file itself is a link out of the project.
        let target = outside.join("precious");
        std::fs::write(&target, "").unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        symlink(&target, &file.path).unwrap();
        let refused = [plan().unwrap_err(), file.plan_uninstall("callingbox").unwrap_err()];
        for error in refused {
            assert!(matches!(error, InstallError::OutsideProject { .. }), "{client}: {error}");
            assert!(error.to_string().contains("outside/precious"), "{error}");
        }
        std::fs::remove_file(&file.path).unwrap();

        // Its folder is one, and the file does not exist.
        if folder != machine.project {
            std::fs::remove_dir(&folder).unwrap();
            symlink(&outside, &folder).unwrap();
            let error = plan().unwrap_err();
            assert!(matches!(error, InstallError::OutsideProject { .. }), "{client}: {error}");
            std::fs::remove_file(&folder).unwrap();
        }
        assert_eq!(names(&outside), ["precious"]);

        // A link within the project is followed.
        let inside = machine.project.join("shared");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&inside, "").unwrap();
        symlink(&inside, &file.path).unwrap();
        plan().unwrap().apply(now()).unwrap();
        assert!(std::fs::read_to_string(&inside).unwrap().contains("callingbox"), "{client}");
    }
}
