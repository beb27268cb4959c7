//! Bytes as hexadecimal digits, and back. Knows nothing of what they are.

/// Two digits for each byte, letters small.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes that these digits say, letters small or capital; none unless there are two for each byte and
/// nothing else.
pub(crate) fn decode<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        for digit in pair {
            *byte = (*byte << 4) | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_two_digits_each_and_nothing_else_is_read() {
        assert_eq!(encode(&[0x00, 0x0f, 0xa1, 0xff]), "000fa1ff");
        assert_eq!(decode("000fA1fF"), Some([0x00, 0x0f, 0xa1, 0xff]));
        let every: Vec<u8> = (0..=255).collect();
        assert_eq!(
            decode::<256>(&encode(&every)).as_ref().map(<[u8; 256]>::as_slice),
            Some(&*every)
        );
        for digits in ["", "0", "000", "00000", "+f00", "0g00", "0x00", "é0", "00 0"] {
            assert_eq!(decode::<2>(digits), None, "{digits}");
        }
    }
}
