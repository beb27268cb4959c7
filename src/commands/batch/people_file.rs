//! Reads the people of a batch from a CSV file, and names every line that is wrong. Knows neither agents nor rules.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, ensure};
use csv::{ReaderBuilder, StringRecord};
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt;

use crate::batch::list::ListProblems;
use crate::dialing::destination::{CountryCode, parse_callee, parse_national};
use crate::dialing::ledger::Person;
use callingbox::E164;

/// A file with the most people of a batch may have 8 KiB for each of them.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
const NUMBER_COLUMN: &str = "to";
const NAME_COLUMN: &str = "name";
/// How the name of a column begins whose cells are stored with the call and not given to the agent.
const METADATA_PREFIX: &str = "metadata.";
const BYTE_ORDER_MARK: char = '\u{FEFF}';

/// The people of a file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct PeopleFile {
    pub(super) people: Vec<(E164, Person)>,
    /// The line of each person.
    pub(super) lines: Vec<u64>,
    /// What is wrong with other lines.
    pub(super) problems: ListProblems,
    /// How many numbers were completed with the calling code of the region.
    pub(super) completed: usize,
}

/// # Errors
/// The file cannot be read, is not UTF-8, or has no column with numbers. Wrong lines are in the result.
pub(super) async fn read_people(
    path: &Path,
    region: Option<CountryCode>,
) -> anyhow::Result<PeopleFile> {
    let name = path.display();
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await;
    let file = file.with_context(|| format!("{name} cannot be read"))?;
    let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).await;
    read.with_context(|| format!("{name} cannot be read"))?;
    ensure!(bytes.len() as u64 <= MAX_FILE_BYTES, "{name} is larger than 4 MiB");
    parse_people(&bytes, region).with_context(|| name.to_string())
}

fn parse_people(bytes: &[u8], region: Option<CountryCode>) -> anyhow::Result<PeopleFile> {
    let text = decode_text(bytes)?;
    let delimiter = find_delimiter(text);
    if let Some(line) = find_open_quote(text, delimiter) {
        anyhow::bail!(
            "line {line}: a quotation mark has no partner, so the lines after it cannot be told apart"
        );
    }
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .has_headers(false)
        .from_reader(text.as_bytes());
    let mut records = reader.records();
    let header = records.next().transpose()?.context("it is empty")?;
    let columns = Columns::from_header(&header)?;
    let mut file = PeopleFile::default();
    let mut lines = LineCounter { rest: text.as_bytes(), position: 0, line: 1 };
    for record in records {
        let record = record?;
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        let start = record.position().map_or(0, csv::Position::byte);
        let line = lines.find_line(start);
        match columns.read_person(&record, region) {
            Ok(row) => {
                file.completed += usize::from(row.is_completed);
                file.people.push((row.number, row.person));
                file.lines.push(line);
            }
            Err(problem) => file.problems.add_line(&problem, line),
        }
    }
    Ok(file)
}

fn decode_text(bytes: &[u8]) -> anyhow::Result<&str> {
    ensure!(
        !bytes.starts_with(&[0xFF, 0xFE]) && !bytes.starts_with(&[0xFE, 0xFF]),
        "it is UTF-16; save it as CSV UTF-8"
    );
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        anyhow::anyhow!("line {line} is not UTF-8; save it as CSV UTF-8")
    })?;
    Ok(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text))
}

/// The delimiter that divides the header into the most columns.
fn find_delimiter(text: &str) -> u8 {
    let count_columns = |delimiter: u8| {
        let mut reader =
            ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text.as_bytes());
        reader.headers().map_or(0, StringRecord::len)
    };
    match [b';', b','].into_iter().max_by_key(|delimiter| count_columns(*delimiter)) {
        Some(b';') if count_columns(b';') > count_columns(b',') => b';',
        _ => b',',
    }
}

/// Counts lines. A reader of CSV that stops between the two characters of a line end counts one too few.
struct LineCounter<'a> {
    rest: &'a [u8],
    position: u64,
    line: u64,
}

impl LineCounter<'_> {
    /// The line of the first character at or after this position that ends no line.
    fn find_line(&mut self, position: u64) -> u64 {
        while let [byte, rest @ ..] = self.rest
            && (self.position < position || matches!(byte, b'\r' | b'\n'))
        {
            self.line += u64::from(*byte == b'\n');
            self.position += 1;
            self.rest = rest;
        }
        self.line
    }
}

/// The line at which a quoted cell begins that does not end. A reader of CSV would take the rest of the file for its text.
fn find_open_quote(text: &str, delimiter: u8) -> Option<u64> {
    let (mut line, mut opened_at, mut is_cell_start) = (1, None, true);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        line += u64::from(byte == b'\n');
        match (opened_at, byte) {
            (Some(_), b'"') if bytes.next_if_eq(&b'"').is_none() => opened_at = None,
            (Some(_), _) => {}
            (None, b'"') if is_cell_start => opened_at = Some(line),
            (None, _) => is_cell_start = byte == delimiter || byte == b'\n',
        }
    }
    opened_at
}

/// The columns of a file.
struct Columns {
    number: usize,
    name: Option<usize>,
    metadata: Vec<(usize, String)>,
    /// The other columns with a name.
    facts: Vec<(usize, String)>,
    count: usize,
}

/// A person who was read.
struct ReadPerson {
    number: E164,
    person: Person,
    is_completed: bool,
}

impl Columns {
    fn from_header(header: &StringRecord) -> anyhow::Result<Self> {
        let names: Vec<&str> = header.iter().map(str::trim).collect();
        let find = |name: &str| names.iter().position(|known| known.eq_ignore_ascii_case(name));
        let number = find(NUMBER_COLUMN).with_context(|| {
            format!(
                "the first line must name the columns, and the one with the numbers `to`; it has: {}",
                callingbox::shown_text::one_line(&names.join(", "), 200)
            )
        })?;
        let name = find(NAME_COLUMN);
        let mut seen = HashSet::new();
        for column in names.iter().filter(|column| !column.is_empty()) {
            ensure!(seen.insert(column.to_lowercase()), "two columns are named `{column}`");
        }
        let (mut metadata, mut facts) = (Vec::new(), Vec::new());
        for (index, column) in names.iter().enumerate() {
            if column.is_empty() || index == number || Some(index) == name {
                continue;
            }
            match column.strip_prefix(METADATA_PREFIX).filter(|key| !key.is_empty()) {
                Some(key) => metadata.push((index, key.to_owned())),
                None => facts.push((index, (*column).to_owned())),
            }
        }
        Ok(Self { number, name, metadata, facts, count: names.len() })
    }

    fn read_person(
        &self,
        record: &StringRecord,
        region: Option<CountryCode>,
    ) -> Result<ReadPerson, String> {
        if record.len() != self.count {
            return Err(format!("it has not {} cells, as the first line has", self.count));
        }
        let cell = |index: usize| record.get(index).map(str::trim).filter(|cell| !cell.is_empty());
        let text = cell(self.number).ok_or("the number is missing")?;
        let (number, is_completed) = parse_number(text, region)?;
        let read = |columns: &[(usize, String)]| {
            let cells = columns.iter();
            let cells =
                cells.filter_map(|(index, name)| Some((name.clone(), cell(*index)?.into())));
            let cells: Map<String, Value> = cells.collect();
            (!cells.is_empty()).then_some(cells)
        };
        let name = self.name.and_then(cell).map(str::to_owned);
        let person = Person { name, context: read(&self.facts), metadata: read(&self.metadata) };
        Ok(ReadPerson { number, person, is_completed })
    }
}

/// Reads a number as people and spreadsheets write it. Returns whether the calling code of the region was added.
pub(super) fn parse_number(
    text: &str,
    region: Option<CountryCode>,
) -> Result<(E164, bool), String> {
    // Spreadsheets mark text with an apostrophe, and so do the results that this program writes.
    let text = text.strip_prefix('\'').unwrap_or(text);
    if is_damaged_by_spreadsheet(text) {
        return Err("a spreadsheet has changed the number (such as into 1.41555E+10), and its digits are lost: format \
                    the column as text and enter the numbers again"
            .to_owned());
    }
    let is_separator = |letter: char| letter.is_whitespace() || "-‐‑–()./".contains(letter);
    let plain: String = text.chars().filter(|letter| !is_separator(*letter)).collect();
    let digits = plain.strip_prefix('+').unwrap_or(&plain);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("this is no phone number".to_owned());
    }
    match (parse_callee(&plain), region) {
        (Ok(number), _) => Ok((number, false)),
        (Err(error), _) if plain.starts_with('+') => Err(error.to_string()),
        (_, Some(region)) => parse_national(&plain, region)
            .map(|number| (number, true))
            .ok_or_else(|| format!("this is no phone number of {region}")),
        (_, None) => Err("the number does not begin with + and a country code; --region names the country of such numbers, \
                     such as --region US"
            .to_owned()),
    }
}

/// Whether a spreadsheet has rounded a number (`1.41555E+10`) or given it decimals (`4155550100.0`).
fn is_damaged_by_spreadsheet(text: &str) -> bool {
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Some((mantissa, exponent)) = text.split_once(['e', 'E']) {
        let mantissa = mantissa.replace(['.', ','], "");
        return is_digits(&mantissa) && is_digits(exponent.strip_prefix('+').unwrap_or(exponent));
    }
    text.rsplit_once('.').is_some_and(|(whole, decimals)| {
        is_digits(whole) && !decimals.is_empty() && decimals.bytes().all(|byte| byte == b'0')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<PeopleFile> {
        parse_people(text.as_bytes(), None)
    }

    fn person(name: Option<&str>, context: Value) -> Person {
        let context = context.as_object().filter(|context| !context.is_empty()).cloned();
        Person { name: name.map(str::to_owned), context, metadata: None }
    }

    #[test]
    fn a_file_is_read_however_it_was_saved() {
        let expected = vec![
            (
                E164::parse("+14155550100").unwrap(),
                person(Some("Doe, \"Sam\""), serde_json::json!({"time": "10:00; sharp"})),
            ),
            (E164::parse("+13105550101").unwrap(), person(None, serde_json::json!({}))),
        ];
        for (text, lines) in [
            (
                "to,name,time\n+14155550100,\"Doe, \"\"Sam\"\"\",10:00; sharp\n+13105550101,,\n",
                [2, 3],
            ),
            (
                "\u{FEFF}To;Name;time\r\n+14155550100;\"Doe, \"\"Sam\"\"\";\"10:00; sharp\"\r\n+13105550101;;\r\n",
                [2, 3],
            ),
            (
                "\"name\",\"time\",\"to\",\n\n\"Doe, \"\"Sam\"\"\",10:00; sharp,+1 (415) 555-0100,\n,,,\n,,'+1.310.555.0101,",
                [3, 5],
            ),
        ] {
            let file = parse(text).unwrap();
            assert_eq!(file.people, expected, "{text}");
            assert_eq!(file.lines, lines, "{text}");
            assert!(file.problems.is_empty(), "{text}");
        }
    }

    #[test]
    fn all_wrong_lines_are_named_with_their_numbers() {
        let text = "to,name,note\n\
            1.41555E+10,A,\n\
            +14155550100,B,\"two\nlines\"\n\
            4155550100,C,\n\
            +1415555010x,D,\n\
            \"1,41555e10\",E,\n\
            ,F,\n\
            +0155550100,G,\n\
            +14155550103\n\
            +14155550104,I,a,b\n\
            4155550100.0,J,\n\
            2125550100,K,\n";
        let file = parse(text).unwrap();
        assert_eq!(file.lines, [3]);
        insta::assert_snapshot!(file.problems, @r"
        The list has errors, and nobody was called:
        - a spreadsheet has changed the number (such as into 1.41555E+10), and its digits are lost: format the column as text and enter the numbers again: lines 2, 7, 12
        - the number does not begin with + and a country code; --region names the country of such numbers, such as --region US: lines 5, 13
        - this is no phone number: line 6
        - the number is missing: line 8
        - not an E.164 number: write + and the country code, such as +1, then the rest of the number, digits only, at most 15 in all: line 9
        - it has not 3 cells, as the first line has: lines 10, 11
        ");
    }

    #[test]
    fn national_numbers_are_completed_with_the_calling_code_of_the_region() {
        for (text, region, number, is_completed) in [
            ("(415) 555-0100", "US", "+14155550100", true),
            ("1 415 555 0100", "US", "+14155550100", true),
            ("+49 30 12345678", "US", "+493012345678", false),
            ("011 49 30 12345678", "US", "+493012345678", true),
            ("030/12345678", "DE", "+493012345678", true),
            ("06 1234 5678", "IT", "+390612345678", true),
            ("020 7183 8750", "GB", "+442071838750", true),
            ("2071838750", "GB", "+442071838750", true),
        ] {
            let region = CountryCode::parse(region).unwrap();
            let (parsed, completed) = parse_number(text, Some(region)).unwrap();
            assert_eq!((parsed.as_str(), completed), (number, is_completed), "{text}");
        }
        for (text, number) in [("911", "+1911"), ("411", "+1411"), ("000", "+61000")] {
            // Such a row is refused, and the others are called.
            for region in [None, CountryCode::parse("US").ok()] {
                let parsed = parse_number(text, region).unwrap().0;
                assert_eq!(parsed.as_str(), number, "{text}");
            }
        }
        for text in ["1", "555 CALL", "+", "4155550100.00", "1e10"] {
            let region = CountryCode::parse("US").unwrap();
            assert!(parse_number(text, Some(region)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_says_why() {
        for (bytes, says) in [
            (&b""[..], "it is empty"),
            (b"\xFF\xFEt\0o\0", "it is UTF-16; save it as CSV UTF-8"),
            (b"to,name\n+14155550100,M\xFCller\n", "line 2 is not UTF-8; save it as CSV UTF-8"),
            (b"phone,name\n", "the one with the numbers `to`; it has: phone, name"),
            (b"+14155550100\n", "it has: +14155550100"),
            (b"to,Name,name\n", "two columns are named `name`"),
            (b"to,name\n1,a\n2,\"b\n3,c\n", "line 3: a quotation mark has no partner"),
            (b"to,name\n1,\"b\"\"\n3,c\n", "line 2: a quotation mark has no partner"),
        ] {
            let error = parse_people(bytes, None).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        // A quotation mark within a cell is a character.
        assert_eq!(parse("to,size\n+14155550100,5\" pipe\n").unwrap().lines, [2]);
    }
}
