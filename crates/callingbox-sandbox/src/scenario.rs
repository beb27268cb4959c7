//! The destination chooses what happens: the table of built-in scenarios, and the timeline that a
//! scenario gives a call. Pure: no clock, no records.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is said once somebody, or something, picks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Speech {
    /// A conversation that answers every field of `returns`.
    Conversation,
    /// The same, with an extraction that fails.
    Unreadable,
    /// The same after half an hour of small talk.
    Long,
    /// A conversation with somebody else; nothing of `returns` comes up.
    WrongPerson,
    /// A callee who tries to give the model orders.
    Hostile,
    /// The lines of a scenario file.
    Written,
}

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ending {
    Completed,
    NoAnswer,
    Busy,
    Canceled,
    Failed,
    /// A machine picks up; the status becomes `no_answer`.
    Voicemail,
}

/// The words for endings in scenario files.
pub(super) const ENDINGS: &[(&str, Ending)] = &[
    ("completed", Ending::Completed),
    ("no_answer", Ending::NoAnswer),
    ("busy", Ending::Busy),
    ("canceled", Ending::Canceled),
    ("failed", Ending::Failed),
    ("voicemail", Ending::Voicemail),
];

/// What happens to the request for the call, beside the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing special.
    Open,
    /// 502, nothing is dialed.
    ProviderRefuses,
    /// 402, nothing is dialed.
    Paused,
    /// The call is placed, the connection is reset.
    AnswerLost,
    /// The call is placed, the answer comes too late.
    AnswerLate,
    /// 429 with `Retry-After: 1` the first time.
    BusyOnce,
    /// 500 before anything is done the first time.
    BrokenOnce,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scenario {
    /// The last four digits of +1 AAA 555 01NN.
    pub(super) digits: &'static str,
    pub(super) what: &'static str,
    pub(super) gate: Gate,
    pub(super) ending: Ending,
    pub(super) speech: Speech,
    /// Whether a caller from outside can play it (`POST /sandbox/inbound_calls`).
    pub(super) inbound: bool,
}

const fn row(
    digits: &'static str,
    what: &'static str,
    gate: Gate,
    ending: Ending,
    speech: Speech,
    inbound: bool,
) -> Scenario {
    Scenario { digits, what, gate, ending, speech, inbound }
}

/// The built-in scenarios; the first also stands for every other number.
pub(super) const TABLE: [Scenario; 16] = {
    use Ending::{Busy, Canceled, Completed, Failed, NoAnswer, Voicemail};
    use Gate::{AnswerLate, AnswerLost, BrokenOnce, BusyOnce, Open, Paused, ProviderRefuses};
    use Speech::{Conversation, Hostile, Long, Unreadable, WrongPerson};
    [
        row(
            "0100",
            "answered, a conversation, completed with a result",
            Open,
            Completed,
            Conversation,
            true,
        ),
        row("0101", "rings out: no_answer", Open, NoAnswer, Conversation, false),
        row("0102", "busy", Open, Busy, Conversation, false),
        row("0103", "voicemail, follows voicemail_action", Open, Voicemail, Conversation, false),
        row("0104", "carrier failure after ringing", Open, Failed, Conversation, true),
        row("0105", "completed, extraction failed", Open, Completed, Unreadable, true),
        row("0106", "canceled before it connects", Open, Canceled, Conversation, true),
        row("0107", "a long call: 30 minutes of simulated time", Open, Completed, Long, true),
        row(
            "0108",
            "wrong person: a conversation, result all null",
            Open,
            Completed,
            WrongPerson,
            true,
        ),
        row(
            "0109",
            "hostile callee: tries to give the model orders",
            Open,
            Completed,
            Hostile,
            true,
        ),
        row(
            "0110",
            "502 from the provider, nothing dialed",
            ProviderRefuses,
            Completed,
            Conversation,
            false,
        ),
        row(
            "0111",
            "402, too little credit, nothing dialed",
            Paused,
            Completed,
            Conversation,
            false,
        ),
        row(
            "0112",
            "call placed, then the connection is reset without an answer",
            AnswerLost,
            Completed,
            Conversation,
            false,
        ),
        row(
            "0113",
            "call placed, answer withheld past the client's time-out",
            AnswerLate,
            Completed,
            Conversation,
            false,
        ),
        row(
            "0114",
            "429 with Retry-After: 1 once, then as 0100",
            BusyOnce,
            Completed,
            Conversation,
            false,
        ),
        row(
            "0115",
            "500 before dispatch once, then as 0100",
            BrokenOnce,
            Completed,
            Conversation,
            false,
        ),
    ]
};

const DEFAULT: Scenario = TABLE[0];

/// The scenario of a destination: +1, any area code, 555 and the four digits of the table.
pub(super) fn of_destination(to: &str) -> Scenario {
    let digits = to
        .strip_prefix("+1")
        .filter(|rest| rest.len() == 10)
        .and_then(|rest| rest.get(3..))
        .and_then(|local| local.strip_prefix("555"));
    digits.and_then(of_digits).unwrap_or(DEFAULT)
}

/// The scenario with these four digits.
pub(super) fn of_digits(digits: &str) -> Option<Scenario> {
    TABLE.into_iter().find(|scenario| scenario.digits == digits)
}

/// The table for `GET /sandbox`.
pub(super) fn listing() -> Vec<Value> {
    TABLE
        .iter()
        .map(|row| json!({"digits": row.digits, "what": row.what, "inbound": row.inbound}))
        .collect()
}

/// When things happen to a call, in milliseconds from its creation. What is `None` never happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Timeline {
    pub(super) initiated: Option<i64>,
    pub(super) ringing: i64,
    /// A person picks up; only then is the call in progress, and charged.
    pub(super) answered: Option<i64>,
    /// The first word, to a person or a machine.
    pub(super) speech: Option<i64>,
    pub(super) ended: i64,
    pub(super) extracted: Option<i64>,
}

/// From the request to the hand-over to the provider.
const INITIATED: i64 = 1_000;
/// From the request to the first ring.
const RINGING: i64 = 3_000;
/// From the end of a conversation to its result.
const EXTRACTION: i64 = 4_000;
/// How long a machine talks before it is known as one.
const DETECTION: i64 = 4_000;

/// How long the destination rings unless a scenario file says otherwise.
pub(super) fn ring_milliseconds(ending: Ending) -> i64 {
    match ending {
        Ending::Completed => 6_000,
        Ending::NoAnswer => 30_000,
        Ending::Busy => 2_000,
        Ending::Canceled => 4_000,
        Ending::Failed => 5_000,
        Ending::Voicemail => 20_000,
    }
}

/// The timeline of an outbound call. `talk` is the length of what is said, in milliseconds; with a
/// machine it is the message left, 0 for none.
pub(super) fn outbound(ending: Ending, ring: i64, talk: i64) -> Timeline {
    let picked_up = RINGING + ring;
    let silent = Timeline {
        initiated: Some(INITIATED),
        ringing: RINGING,
        answered: None,
        speech: None,
        ended: picked_up,
        extracted: None,
    };
    match ending {
        Ending::Completed => connected(silent, picked_up, talk),
        Ending::Voicemail => {
            let speech = picked_up + DETECTION;
            Timeline { speech: (talk > 0).then_some(speech), ended: speech + talk, ..silent }
        }
        Ending::NoAnswer | Ending::Busy | Ending::Canceled | Ending::Failed => silent,
    }
}

/// The timeline of an inbound call: it rings at once and the agent picks up two seconds later.
pub(super) fn inbound(ending: Ending, talk: i64) -> Timeline {
    let silent = Timeline {
        initiated: None,
        ringing: 0,
        answered: None,
        speech: None,
        ended: 1_000,
        extracted: None,
    };
    if ending == Ending::Completed { connected(silent, 2_000, talk) } else { silent }
}

fn connected(silent: Timeline, answered: i64, talk: i64) -> Timeline {
    let ended = answered + talk;
    Timeline {
        answered: Some(answered),
        speech: Some(answered),
        ended,
        extracted: Some(ended + EXTRACTION),
        ..silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_four_digits_choose_in_any_area_code() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.digits, format!("{:04}", 100 + at));
            for area in ["212", "415", "907"] {
                assert_eq!(of_destination(&format!("+1{area}555{}", row.digits)), *row);
            }
        }
        for other in
            ["+14155550116", "+14155560101", "+44155550101", "+1415555010", "+141555501011"]
        {
            assert_eq!(of_destination(other), DEFAULT, "{other}");
        }
    }

    #[test]
    fn timelines() {
        let silent = |ended| Timeline {
            initiated: Some(1_000),
            ringing: 3_000,
            answered: None,
            speech: None,
            ended,
            extracted: None,
        };
        let cases = [
            (Ending::NoAnswer, 0, silent(33_000)),
            (Ending::Busy, 0, silent(5_000)),
            (Ending::Canceled, 0, silent(7_000)),
            (Ending::Failed, 0, silent(8_000)),
            (Ending::Voicemail, 0, silent(27_000)),
            (Ending::Voicemail, 9_000, Timeline { speech: Some(27_000), ..silent(36_000) }),
            (
                Ending::Completed,
                47_000,
                Timeline {
                    answered: Some(9_000),
                    speech: Some(9_000),
                    extracted: Some(60_000),
                    ..silent(56_000)
                },
            ),
        ];
        for (ending, talk, timeline) in cases {
            assert_eq!(outbound(ending, ring_milliseconds(ending), talk), timeline, "{ending:?}");
        }
    }
}
