//! Access control lists of Windows, as its own program icacls prints them: in SDDL, which is the same in every language
//! of Windows. Whether groups that hold every user of the machine have access; what single users may do is their
//! administrator's decision.

/// What every user of the machine may do with a file or a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedAccess {
    pub reads: bool,
    /// Change, replace or delete the file.
    pub writes: bool,
    /// Replace files in the folder.
    pub replaces_files: bool,
}

/// Groups that hold every user, or everyone who can log in: everyone, authenticated users, users, domain users,
/// interactive, network, guests, anonymous.
const SHARED_GROUPS: [&str; 13] = [
    "WD",
    "AU",
    "BU",
    "DU",
    "IU",
    "NU",
    "BG",
    "AN",
    "S-1-1-0",
    "S-1-5-11",
    "S-1-5-32-545",
    "S-1-5-4",
    "S-1-5-32-546",
];

const GENERIC_ALL: u32 = 0x1000_0000;
const CHANGE_PERMISSIONS: u32 = 0x0004_0000 | 0x0008_0000 | GENERIC_ALL;
/// Read data.
const READS: u32 = 0x1 | 0x8000_0000 | GENERIC_ALL;
/// Write data, append data, delete.
const WRITES: u32 = 0x2 | 0x4 | 0x0001_0000 | 0x4000_0000 | CHANGE_PERMISSIONS;
/// Delete a child.
const REPLACES_FILES: u32 = 0x40 | CHANGE_PERMISSIONS;

/// The access that an SDDL text such as `D:AI(A;ID;FA;;;SY)(A;ID;0x1301bf;;;AU)` gives to every user. A text without a
/// list (`D:NO_ACCESS_CONTROL`) gives all of it.
#[must_use]
pub fn shared_access(sddl: &str) -> SharedAccess {
    let Some((_, list)) = sddl.split_once("D:") else { return SharedAccess::default() };
    if list.starts_with("NO_ACCESS_CONTROL") {
        return SharedAccess { reads: true, writes: true, replaces_files: true };
    }
    // What follows is the list of what is audited.
    let list = list.split_once("S:").map_or(list, |(list, _)| list);
    let rights = list.split('(').filter_map(shared_rights).fold(0, |all, rights| all | rights);
    SharedAccess {
        reads: rights & READS != 0,
        writes: rights & WRITES != 0,
        replaces_files: rights & REPLACES_FILES != 0,
    }
}

/// The rights that an entry such as `A;OICI;FA;;;BU)` allows to a group of every user.
fn shared_rights(entry: &str) -> Option<u32> {
    let entry = entry.split_once(')')?.0;
    let mut fields = entry.split(';');
    let (kind, flags, rights) = (fields.next()?, fields.next()?, fields.next()?);
    let group = fields.nth(2)?;
    // An entry that is only inherited says nothing of the folder itself.
    let is_inherited_only = pairs(flags).any(|flag| flag == "IO");
    let counts = matches!(kind, "A" | "XA") && !is_inherited_only && SHARED_GROUPS.contains(&group);
    counts.then(|| parse_rights(rights))
}

fn parse_rights(rights: &str) -> u32 {
    if let Some(digits) = rights.strip_prefix("0x") {
        return u32::from_str_radix(digits, 16).unwrap_or(u32::MAX);
    }
    pairs(rights).fold(0, |all, name| {
        all | match name {
            "GA" => GENERIC_ALL,
            "GR" => 0x8000_0000,
            "GW" => 0x4000_0000,
            "FA" => 0x001f_01ff,
            "FR" => 0x0012_0089,
            "FW" => 0x0012_0116,
            "SD" => 0x0001_0000,
            "WD" => 0x0004_0000,
            "WO" => 0x0008_0000,
            "CC" => 0x1,
            "DC" => 0x2,
            "LC" => 0x4,
            "DT" => 0x40,
            _ => 0,
        }
    })
}

/// A text in pairs of letters.
fn pairs(text: &str) -> impl Iterator<Item = &str> {
    (0..text.len()).step_by(2).filter_map(|start| text.get(start..start + 2))
}

/// The SDDL text in a file that `icacls /save` wrote: UTF-16, a line with the name and one with the list.
#[must_use]
pub fn parse_saved_list(bytes: &[u8]) -> Option<String> {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .filter_map(|pair| Some(u16::from_le_bytes(pair.try_into().ok()?)))
        .collect();
    let text = String::from_utf16(&units).ok()?;
    text.lines().map(str::trim).rfind(|line| line.contains("D:")).map(str::to_owned)
}

/// The arguments with which icacls leaves a file to one user, or a folder and the files created in it.
#[must_use]
pub fn restrict_arguments(user: &str, is_folder: bool) -> [String; 3] {
    let inherited = if is_folder { "(OI)(CI)" } else { "" };
    ["/inheritance:r".to_owned(), "/grant:r".to_owned(), format!("{user}:{inherited}F")]
}

#[cfg(windows)]
mod system {
    use std::ffi::OsString;
    use std::os::windows::process::CommandExt;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    /// The program shows no window, even if this one has no console.
    const CREATE_NO_WINDOW: u32 = 0x0800_0000;

    fn icacls(path: &Path) -> Command {
        let root = std::env::var_os("SystemRoot").unwrap_or_else(|| OsString::from(r"C:\Windows"));
        let mut command = Command::new(PathBuf::from(root).join("System32").join("icacls.exe"));
        command.arg(path).creation_flags(CREATE_NO_WINDOW);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// What every user may do with a file or a folder; `None` if that cannot be found out.
    #[must_use]
    pub fn read_shared_access(path: &Path) -> Option<super::SharedAccess> {
        let saved = tempfile::NamedTempFile::new().ok()?.into_temp_path();
        icacls(path).arg("/save").arg(&saved).status().ok()?;
        Some(super::shared_access(&super::parse_saved_list(&std::fs::read(&saved).ok()?)?))
    }

    /// Leaves a file to this user alone, or a folder and the files created in it.
    ///
    /// # Errors
    /// icacls cannot be started, or refuses.
    pub fn restrict_to_user(path: &Path) -> std::io::Result<()> {
        let name = |variable: &str| std::env::var(variable).map_err(std::io::Error::other);
        let user = format!(r"{}\{}", name("USERDOMAIN")?, name("USERNAME")?);
        let status = icacls(path).args(super::restrict_arguments(&user, path.is_dir())).status()?;
        if status.success() { Ok(()) } else { Err(std::io::Error::other("icacls refused")) }
    }
}

#[cfg(windows)]
pub use system::{read_shared_access, restrict_to_user};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_of_every_user_is_found() {
        let me = "S-1-5-21-1004336348-1177238915-682003330-1001";
        for (list, reads, writes, replaces_files) in [
            // A file in a user's profile.
            (format!("D:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;FA;;;{me})"), false, false, false),
            // After `restrict_to_user`.
            (format!("D:PAI(A;;FA;;;{me})"), false, false, false),
            // A file and a folder in C:\.
            (
                "D:AI(A;ID;FA;;;BA)(A;ID;FA;;;SY)(A;ID;0x1200a9;;;BU)(A;ID;0x1301bf;;;AU)".into(),
                true,
                true,
                false,
            ),
            ("O:BAG:SYD:AI(A;OICIIO;FA;;;CO)(A;OICI;FR;;;BU)".into(), true, false, false),
            // Only for what is created in the folder.
            ("D:PAI(A;OICIIO;0x1301bf;;;AU)(A;OICI;FA;;;BA)".into(), false, false, false),
            ("D:(A;OICI;FA;;;WD)".into(), true, true, true),
            ("D:(A;;GA;;;S-1-1-0)".into(), true, true, true),
            ("D:(A;;DCLCDT;;;IU)".into(), false, true, true),
            ("D:(A;;WDWO;;;BG)".into(), false, true, true),
            // Denied, and audited.
            ("D:(D;;FA;;;WD)(A;;FA;;;SY)S:(AU;SAFA;FA;;;WD)".into(), false, false, false),
            ("D:NO_ACCESS_CONTROL".into(), true, true, true),
            (String::new(), false, false, false),
            ("D:(A;;FA".into(), false, false, false),
            ("D:(A;ID;ä;;;BU)".into(), false, false, false),
        ] {
            let expected = SharedAccess { reads, writes, replaces_files };
            assert_eq!(shared_access(&list), expected, "{list}");
        }
    }

    #[test]
    fn a_folder_passes_its_access_list_on() {
        let arguments = |is_folder| restrict_arguments(r"PC\me", is_folder).join(" ");
        assert_eq!(arguments(false), r"/inheritance:r /grant:r PC\me:F");
        assert_eq!(arguments(true), r"/inheritance:r /grant:r PC\me:(OI)(CI)F");
    }

    #[test]
    fn a_saved_list_is_utf_16() {
        let text = "api-key\r\nD:AI(A;ID;FA;;;SY)\r\n";
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(parse_saved_list(&bytes).as_deref(), Some("D:AI(A;ID;FA;;;SY)"));
        assert_eq!(parse_saved_list(b""), None);
        assert_eq!(parse_saved_list(b"\x00\xd8\x00\xd8"), None);
    }
}
