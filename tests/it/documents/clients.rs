//! The table of each client's file on each system is that of the program.

use callingbox_mcp::install::{ClientApp, InstallScope};
use callingbox_mcp::system::Os;

use super::Page;
use crate::install::tables::machine;

/// The file as a person of that system writes it.
fn written(client: ClientApp, os: Os) -> String {
    let machine = machine(os, "".as_ref());
    let files = client.files(InstallScope::User, &machine).unwrap();
    let path = files[0].path.to_str().unwrap();
    match os {
        Os::Linux | Os::MacOs => path.replacen("home/", "~/", 1),
        Os::Windows => path
            .replacen("home/AppData/Roaming/", "%APPDATA%/", 1)
            .replacen("home/", "%USERPROFILE%/", 1)
            .replace('/', "\\"),
    }
}

#[test]
fn the_table_of_files_is_that_of_the_program() {
    let mut table = "| Client | Linux | macOS | Windows |\n|---|---|---|---|\n".to_owned();
    for client in ClientApp::ALL {
        let [linux, mac, windows] =
            [Os::Linux, Os::MacOs, Os::Windows].map(|os| written(client, os));
        table.push_str(&format!("| {client} | `{linux}` | `{mac}` | `{windows}` |\n"));
    }
    Page::read("docs/install.md").update("files", &table, |present| present == table);
}
