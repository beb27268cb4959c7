//! Reads text files as people write them, also with the tools of Windows: with a byte order mark, or in UTF-16, as
//! `>` of Windows PowerShell writes. Does not know what the text means.

use std::fs::Permissions;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::time::SystemTime;

use callingbox::json_text::strip_bom;

/// The text of a file, without a byte order mark.
///
/// # Errors
/// The file cannot be read, or is neither UTF-8 nor marked UTF-16.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    decode(&std::fs::read(path)?)
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, "it is not a text file in UTF-8"))
}

/// When a file was changed last, its size, and who may change it: another stamp means that it is to be read again.
pub(crate) type FileStamp = (SystemTime, u64, Permissions);

/// The stamp of a file; `None` without one. Read it before the file, so that no change is missed.
pub(crate) fn read_stamp(path: &Path) -> Option<FileStamp> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len(), file.permissions()))
}

fn decode(bytes: &[u8]) -> Option<String> {
    match bytes {
        [0xff, 0xfe, text @ ..] => decode_utf16(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => decode_utf16(text, u16::from_be_bytes),
        text => str::from_utf8(strip_bom(text)).ok().map(str::to_owned),
    }
}

fn decode_utf16(bytes: &[u8], read_unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks();
    let units: Vec<u16> = pairs.iter().copied().map(read_unit).collect();
    rest.is_empty().then(|| String::from_utf16(&units).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_marked_encoding_is_read_and_no_other() {
        let text = "default = \"refuse\" # é\r\n";
        let units: Vec<u16> = text.encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            [b"\xff\xfe", &little[..]].concat(),
            [b"\xfe\xff", &big[..]].concat(),
        ] {
            assert_eq!(decode(&bytes).as_deref(), Some(text), "{bytes:?}");
        }
        // Latin-1, half a unit, and half a pair.
        for bytes in [&b"caf\xe9"[..], b"\xff\xfea", b"\xff\xfe\x3d\xd8"] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
        assert_eq!(decode(b"").as_deref(), Some(""));
    }
}
