//! Which places of a program stay, on each operating system, and the copies that `install` makes of a program elsewhere.

use std::path::{Path, PathBuf};

use callingbox_mcp::config::UserFolders;
use semver::Version;

use callingbox_mcp::install::{
    OutdatedProgram, PackageRunner, ProgramCopies, ProgramPlace, this_version,
};
use callingbox_mcp::system::{Os, SystemFolders};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

/// The folders of a user on each system, as its own paths look.
fn system(os: Os) -> SystemFolders {
    let (home, temp) = match os {
        Os::Linux => ("/home/me", "/tmp"),
        Os::MacOs => ("/Users/me", "/var/folders/x1/abc/T/"),
        Os::Windows => (r"C:\Users\me", r"C:\Users\me\AppData\Local\Temp\"),
    };
    let windows = |name: &str| {
        let folder = match (os, name) {
            (Os::Windows, "APPDATA") => r"C:\Users\me\AppData\Roaming",
            (Os::Windows, "LOCALAPPDATA") => r"C:\Users\me\AppData\Local",
            _ => return None,
        };
        Some(PathBuf::from(folder))
    };
    SystemFolders::new(os, Path::new(home), temp.into(), &windows)
}

#[test]
fn caches_and_temporary_folders_are_known_on_each_system() {
    use PackageRunner::{Bunx, Npx, PipxRun, PnpmDlx, Uvx};
    let cache = ProgramPlace::Cache;
    let npx = "node_modules/@callingbox-mcp/linux-x64/callingbox-mcp";
    let linux = [
        (format!("/home/me/.npm/_npx/5f1d2/{npx}"), cache(Npx)),
        (format!("/cache/npm/_npx/5f1d2/{npx}"), cache(Npx)),
        (format!("/home/me/.cache/pnpm/dlx/a1b2/17a/{npx}"), cache(PnpmDlx)),
        (format!("/tmp/bunx-1000-callingbox-mcp@latest/{npx}"), cache(Bunx)),
        ("/home/me/.cache/uv/archive-v0/Ab3/bin/callingbox-mcp".into(), cache(Uvx)),
        ("/home/me/.cache/uv/environments-v2/x-1/bin/callingbox-mcp".into(), cache(Uvx)),
        ("/home/me/.cache/pipx/8c1/bin/callingbox-mcp".into(), cache(PipxRun)),
        ("/home/me/.local/pipx/.cache/8c1/bin/callingbox-mcp".into(), cache(PipxRun)),
        (
            "/home/linuxbrew/.linuxbrew/Cellar/callingbox-mcp/0.1.0/bin/callingbox-mcp".into(),
            ProgramPlace::HomebrewCellar,
        ),
        ("/tmp/x/callingbox-mcp".into(), ProgramPlace::TemporaryFolder),
        ("/home/me/.cargo/bin/callingbox-mcp".into(), ProgramPlace::Permanent),
        ("/home/me/tmp/callingbox-mcp".into(), ProgramPlace::Permanent),
        (format!("/usr/lib/node_modules/callingbox-mcp/{npx}"), ProgramPlace::Permanent),
        ("/home/me/.local/share/uv/tools/x/bin/callingbox-mcp".into(), ProgramPlace::Permanent),
        ("/home/me/.local/share/pipx/venvs/x/bin/callingbox-mcp".into(), ProgramPlace::Permanent),
        ("/home/linuxbrew/.linuxbrew/bin/callingbox-mcp".into(), ProgramPlace::Permanent),
        (
            "/home/me/.local/share/callingbox-mcp/bin/0.0.9/callingbox-mcp".into(),
            ProgramPlace::Copy(version("0.0.9")),
        ),
        (
            "/home/me/.local/share/callingbox-mcp/bin/x/callingbox-mcp".into(),
            ProgramPlace::Permanent,
        ),
    ];
    let macos = [
        (format!("/Users/me/.npm/_npx/5f1d2/{npx}"), cache(Npx)),
        (format!("/Users/me/Library/Caches/pnpm/dlx/a1b2/{npx}"), cache(PnpmDlx)),
        ("/Users/me/.cache/uv/archive-v0/Ab3/bin/callingbox-mcp".into(), cache(Uvx)),
        ("/Users/me/Library/Caches/pipx/8c1/bin/callingbox-mcp".into(), cache(PipxRun)),
        (
            "/opt/homebrew/Cellar/callingbox-mcp/0.1.0/bin/callingbox-mcp".into(),
            ProgramPlace::HomebrewCellar,
        ),
        (
            "/usr/local/Cellar/callingbox-mcp/0.1.0/bin/callingbox-mcp".into(),
            ProgramPlace::HomebrewCellar,
        ),
        // Gatekeeper starts a downloaded program from here.
        (
            "/private/var/folders/x1/abc/T/AppTranslocation/9/d/callingbox-mcp".into(),
            ProgramPlace::TemporaryFolder,
        ),
        ("/var/folders/x1/abc/T/callingbox-mcp".into(), ProgramPlace::TemporaryFolder),
        ("/private/tmp/callingbox-mcp".into(), ProgramPlace::TemporaryFolder),
        (
            "/Users/me/Library/Application Support/Claude/Claude Extensions/x/server/callingbox-mcp"
                .into(),
            ProgramPlace::Bundle,
        ),
        ("/usr/local/bin/callingbox-mcp".into(), ProgramPlace::Permanent),
        ("/opt/homebrew/bin/callingbox-mcp".into(), ProgramPlace::Permanent),
        (
            "/Users/me/Library/Application Support/callingbox-mcp/bin/0.2.0-rc.1/callingbox-mcp"
                .into(),
            ProgramPlace::Copy(version("0.2.0-rc.1")),
        ),
    ];
    let local = r"C:\Users\me\AppData\Local";
    let npx = r"node_modules\@callingbox-mcp\win32-x64\callingbox-mcp.exe";
    let windows = [
        (format!(r"{local}\npm-cache\_npx\5f1d2\{npx}"), cache(Npx)),
        (format!(r"{local}\pnpm-cache\dlx\a1b2\{npx}"), cache(PnpmDlx)),
        (format!(r"{local}\Temp\bunx-0-callingbox-mcp@latest\{npx}"), cache(Bunx)),
        (format!(r"{local}\uv\cache\archive-v0\Ab3\Scripts\callingbox-mcp.exe"), cache(Uvx)),
        (format!(r"{local}\pipx\pipx\Cache\8c1\Scripts\callingbox-mcp.exe"), cache(PipxRun)),
        (format!(r"{local}\Temp\x\callingbox-mcp.exe"), ProgramPlace::TemporaryFolder),
        (format!("{local}/temp/callingbox-mcp.exe").to_lowercase(), ProgramPlace::TemporaryFolder),
        (
            r"C:\Users\me\AppData\Roaming\Claude\Claude Extensions\x\server\callingbox-mcp.exe"
                .into(),
            ProgramPlace::Bundle,
        ),
        (r"C:\Users\me\.cargo\bin\callingbox-mcp.exe".into(), ProgramPlace::Permanent),
        (
            r"C:\Users\me\scoop\apps\callingbox-mcp\current\callingbox-mcp.exe".into(),
            ProgramPlace::Permanent,
        ),
        (
            format!(r"C:\Users\me\AppData\Roaming\npm\node_modules\callingbox-mcp\{npx}"),
            ProgramPlace::Permanent,
        ),
        (
            r"c:\users\me\.callingbox-mcp\bin\0.0.9\callingbox-mcp.exe".into(),
            ProgramPlace::Copy(version("0.0.9")),
        ),
    ];
    for (os, table) in [(Os::Linux, &linux[..]), (Os::MacOs, &macos), (Os::Windows, &windows)] {
        // `Path` of this system joins with its own separator, so the folder of copies is written out on Windows.
        let mut system = system(os);
        if os == Os::Windows {
            system.home = "C:/Users/me".into();
        }
        let copies = ProgramCopies::new(&system);
        for (path, place) in table {
            assert_eq!(copies.locate(Path::new(path)), *place, "{os:?} {path}");
        }
    }
}

#[test]
fn a_home_folder_in_a_temporary_folder_stays() {
    let linux = |home: &str| {
        let system = SystemFolders::new(Os::Linux, Path::new(home), "/tmp".into(), &|_| None);
        ProgramCopies::new(&system).locate(Path::new("/tmp/home/.cargo/bin/callingbox-mcp"))
    };
    assert_eq!(linux("/tmp/home"), ProgramPlace::Permanent);
    assert_eq!(linux("/tmp"), ProgramPlace::Permanent);
    assert_eq!(linux("/root"), ProgramPlace::TemporaryFolder);
}

#[test]
fn each_system_has_its_folder_of_copies() {
    for (os, expected) in [
        (Os::Linux, "/h/.local/share/callingbox-mcp/bin/0.1.0/callingbox-mcp"),
        (Os::MacOs, "/h/Library/Application Support/callingbox-mcp/bin/0.1.0/callingbox-mcp"),
        (Os::Windows, "/h/.callingbox-mcp/bin/0.1.0/callingbox-mcp.exe"),
    ] {
        let system = SystemFolders::new(os, Path::new("/h"), "/t".into(), &|_| None);
        assert_eq!(ProgramCopies::new(&system).path(&version("0.1.0")), Path::new(expected));
    }
}

#[test]
fn versions_are_in_the_order_of_their_releases() {
    let order = ["0.0.9", "0.1.0-rc.1", "0.1.0", "0.2.0", "0.10.0", "1.0.0"].map(version);
    assert!(order.is_sorted());
    for text in ["", "x", "1", "1.2", "1.2.x", "latest", "..", "1.2.3.4"] {
        assert!(Version::parse(text).is_err(), "{text}");
    }
}

/// A home folder with a program in the cache of npx.
fn home_with_cache() -> (tempfile::TempDir, ProgramCopies, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let system = SystemFolders::new(Os::Linux, home.path(), "/none".into(), &|_| None);
    let program = home.path().join(".npm/_npx/1/callingbox-mcp");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::write(&program, "a program").unwrap();
    (home, ProgramCopies::new(&system), program)
}

#[cfg(unix)]
#[test]
fn a_program_from_a_cache_is_copied_with_its_permissions() {
    use std::os::unix::fs::PermissionsExt;

    let (_home, copies, program) = home_with_cache();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, executable).unwrap();
    let lasting = copies.lasting_path(&program);
    assert_eq!(lasting.path, copies.path(&this_version()));
    assert!(lasting.provide().unwrap());
    assert!(!lasting.provide().unwrap(), "the same program is not copied again");
    let copy = std::fs::metadata(&lasting.path).unwrap();
    assert_eq!(copy.permissions().mode() & 0o777, 0o755);
    std::fs::write(&program, "a later build").unwrap();
    assert!(lasting.provide().unwrap());
    assert_eq!(std::fs::read_to_string(&lasting.path).unwrap(), "a later build");
    // From the copy itself, nothing is copied.
    let again = copies.lasting_path(&lasting.path);
    assert_eq!((again.path, again.copied_from), (lasting.path, None));
}

#[cfg(unix)]
#[test]
fn homebrew_has_a_link_that_stays() {
    let prefix = tempfile::tempdir().unwrap();
    let system = SystemFolders::new(Os::MacOs, Path::new("/h"), "/none".into(), &|_| None);
    let copies = ProgramCopies::new(&system);
    let cellar = prefix.path().join("Cellar/callingbox-mcp/0.1.0");
    let program = cellar.join("bin/callingbox-mcp");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::write(&program, "").unwrap();
    assert_eq!(copies.lasting_path(&program).path, copies.path(&this_version()));
    std::fs::create_dir(prefix.path().join("opt")).unwrap();
    std::os::unix::fs::symlink(&cellar, prefix.path().join("opt/callingbox-mcp")).unwrap();
    let link = prefix.path().join("opt/callingbox-mcp/bin/callingbox-mcp");
    assert_eq!(copies.lasting_path(&program).path, link);
}

#[test]
fn one_earlier_copy_is_kept_and_each_that_an_entry_names() {
    let (_home, copies, _) = home_with_cache();
    let place = |text: &str| copies.path(&version(text));
    let all = ["0.0.1", "0.0.2", "0.0.10", "0.0.9", VERSION];
    for text in all {
        std::fs::create_dir_all(place(text).parent().unwrap()).unwrap();
        std::fs::write(place(text), text).unwrap();
    }
    copies.remove_unused(&[place("0.0.2"), "/usr/bin/callingbox-mcp".into()]);
    let kept: Vec<&str> = all.into_iter().filter(|text| place(text).exists()).collect();
    assert_eq!(kept, ["0.0.2", "0.0.10", VERSION]);
    assert!(copies.remove_all().unwrap() && !copies.folder().exists());
    assert!(!copies.remove_all().unwrap());
    let data = UserFolders::new(&system(Os::Linux)).data.unwrap();
    assert!(ProgramCopies::new(&system(Os::Linux)).folder().starts_with(data));
}

#[test]
fn an_entry_is_outdated_if_its_program_is_older_or_may_vanish() {
    let (home, copies, cached) = home_with_cache();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let lasting = home.path().join("bin/callingbox-mcp");
    for copy in [lasting.clone(), copies.path(&version("0.0.9")), copies.path(&version("99.0.0"))] {
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::write(copy, "").unwrap();
    }
    let npx = ProgramPlace::Cache(PackageRunner::Npx);
    for (command, expected) in [
        (text(&cached), Some(OutdatedProgram::Vanishing(npx))),
        (
            text(&copies.path(&version("0.0.9"))),
            Some(OutdatedProgram::EarlierVersion(version("0.0.9"))),
        ),
        (text(&copies.path(&version("99.0.0"))), None),
        (text(&copies.path(&this_version())), Some(OutdatedProgram::Missing)),
        ("/home/_npx/gone/callingbox-mcp".to_owned(), Some(OutdatedProgram::Missing)),
        ("/gone/callingbox-mcp".to_owned(), None),
        (text(&lasting), None),
        ("callingbox-mcp".to_owned(), None),
        ("npx".to_owned(), None),
        ("/tmp/other".to_owned(), None),
    ] {
        assert_eq!(copies.find_outdated(&command), expected, "{command}");
    }
}
