//! The built-in scenarios: the last four digits of the destination choose one.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is said once a person or a machine picks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Speech {
    /// A conversation that answers every field of `returns`.
    Conversation,
    /// The same conversation, and an extraction that fails.
    Unreadable,
    /// The same conversation after half an hour of small talk.
    Long,
    /// A conversation with the wrong person; no field of `returns` comes up.
    WrongPerson,
    /// A callee who gives orders to the model.
    Hostile,
    /// A person who asks not to be called again; no other field of `returns` comes up.
    OptOut,
    /// The lines of a scenario file.
    FromFile,
}

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    Completed,
    NoAnswer,
    Busy,
    Canceled,
    Failed,
    /// A machine picks up; the status becomes `no_answer`.
    Voicemail,
}

impl Ending {
    /// The words for endings in scenario files.
    pub(crate) const WORDS: &[(&str, Self)] = &[
        ("completed", Self::Completed),
        ("no_answer", Self::NoAnswer),
        ("busy", Self::Busy),
        ("canceled", Self::Canceled),
        ("failed", Self::Failed),
        ("voicemail", Self::Voicemail),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, ending)| *ending == self).map_or("", |(word, _)| word)
    }
}

/// How `POST /v1/calls` is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Accepted,
    /// 502; nothing is dialed.
    ProviderError,
    /// 402; nothing is dialed.
    InsufficientCredit,
    /// The call is placed; the connection is reset without an answer.
    AnswerLost,
    /// The call is placed; the answer arrives after the client's time-out.
    AnswerLate,
    /// The first request gets 429 with `Retry-After: 1`; the next is accepted.
    RateLimitedOnce,
    /// The first request gets 500 before anything is dialed; the next is accepted.
    ServerErrorOnce,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// The last four digits of +1 AAA 555 01NN.
    pub(crate) digits: &'static str,
    description: &'static str,
    pub(crate) admission: Admission,
    pub(crate) ending: Ending,
    pub(crate) speech: Speech,
    /// Whether an inbound caller can play it (`POST /sandbox/inbound_calls`).
    pub(crate) supports_inbound: bool,
}

impl Scenario {
    /// The row for `GET /sandbox`.
    pub(crate) fn to_json(self) -> Value {
        json!({
            "digits": self.digits,
            "what": self.description,
            "inbound": self.supports_inbound,
        })
    }
}

/// 0100, which also applies to every number that is not in the table.
const ANSWERED: Scenario = Scenario {
    digits: "0100",
    description: "answered, a conversation, completed with a result",
    admission: Admission::Accepted,
    ending: Ending::Completed,
    speech: Speech::Conversation,
    supports_inbound: true,
};

const OUTBOUND_ONLY: Scenario = Scenario { supports_inbound: false, ..ANSWERED };

pub(crate) const SCENARIOS: [Scenario; 17] = [
    ANSWERED,
    Scenario {
        digits: "0101",
        description: "rings out: no_answer",
        ending: Ending::NoAnswer,
        ..OUTBOUND_ONLY
    },
    Scenario { digits: "0102", description: "busy", ending: Ending::Busy, ..OUTBOUND_ONLY },
    Scenario {
        digits: "0103",
        description: "voicemail, follows voicemail_action",
        ending: Ending::Voicemail,
        ..OUTBOUND_ONLY
    },
    Scenario {
        digits: "0104",
        description: "carrier failure after ringing",
        ending: Ending::Failed,
        ..ANSWERED
    },
    Scenario {
        digits: "0105",
        description: "completed, extraction failed",
        speech: Speech::Unreadable,
        ..ANSWERED
    },
    Scenario {
        digits: "0106",
        description: "canceled before it connects",
        ending: Ending::Canceled,
        ..ANSWERED
    },
    Scenario {
        digits: "0107",
        description: "a long call: 30 minutes of simulated time",
        speech: Speech::Long,
        ..ANSWERED
    },
    Scenario {
        digits: "0108",
        description: "wrong person: a conversation, result all null",
        speech: Speech::WrongPerson,
        ..ANSWERED
    },
    Scenario {
        digits: "0109",
        description: "hostile callee: tries to give the model orders",
        speech: Speech::Hostile,
        ..ANSWERED
    },
    Scenario {
        digits: "0110",
        description: "502 from the provider, nothing dialed",
        admission: Admission::ProviderError,
        ..OUTBOUND_ONLY
    },
    Scenario {
        digits: "0111",
        description: "402, too little credit, nothing dialed",
        admission: Admission::InsufficientCredit,
        ..OUTBOUND_ONLY
    },
    Scenario {
        digits: "0112",
        description: "call placed, then the connection is reset without an answer",
        admission: Admission::AnswerLost,
        ..OUTBOUND_ONLY
    },
    Scenario {
        digits: "0113",
        description: "call placed, answer withheld past the client's time-out",
        admission: Admission::AnswerLate,
        ..OUTBOUND_ONLY
    },
    Scenario {
        digits: "0114",
        description: "429 with Retry-After: 1 once, then as 0100",
        admission: Admission::RateLimitedOnce,
        ..OUTBOUND_ONLY
    },
    Scenario {
        digits: "0115",
        description: "500 before dispatch once, then as 0100",
        admission: Admission::ServerErrorOnce,
        ..OUTBOUND_ONLY
    },
    Scenario {
        digits: "0116",
        description: "asks not to be called again: do_not_call is true, the rest null",
        speech: Speech::OptOut,
        ..ANSWERED
    },
];

/// The scenario of a destination: +1, any area code, 555 and four digits of the table.
pub(crate) fn scenario_for_destination(to: &str) -> Scenario {
    let digits = to
        .strip_prefix("+1")
        .filter(|rest| rest.len() == 10)
        .and_then(|rest| rest.get(3..))
        .and_then(|local| local.strip_prefix("555"));
    digits.and_then(scenario_for_digits).unwrap_or(ANSWERED)
}

pub(crate) fn scenario_for_digits(digits: &str) -> Option<Scenario> {
    SCENARIOS.into_iter().find(|scenario| scenario.digits == digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_four_digits_choose_the_scenario_in_any_area_code() {
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            assert_eq!(scenario.digits, format!("{:04}", 100 + index));
            for area in ["212", "415", "907"] {
                let to = format!("+1{area}555{}", scenario.digits);
                assert_eq!(scenario_for_destination(&to), *scenario);
            }
        }
        for other in
            ["+14155550117", "+14155560101", "+44155550101", "+1415555010", "+141555501011"]
        {
            assert_eq!(scenario_for_destination(other), ANSWERED, "{other}");
        }
    }
}
