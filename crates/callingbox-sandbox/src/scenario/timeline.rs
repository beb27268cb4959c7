//! When things happen to a call, measured from its creation.

use serde::{Deserialize, Serialize};

use super::table::Ending;

/// The moments of a call, in milliseconds from its creation. A moment that is `None` never comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Timeline {
    pub(crate) initiated: Option<i64>,
    pub(crate) ringing: i64,
    /// A person picks up. Only then is the call in progress, and charged.
    pub(crate) answered: Option<i64>,
    /// The first word, to a person or a machine.
    pub(crate) speech: Option<i64>,
    pub(crate) ended: i64,
    pub(crate) extracted: Option<i64>,
}

/// From the request to the hand-over to the provider.
const INITIATED: i64 = 1_000;
/// From the request to the first ring.
const RINGING: i64 = 3_000;
/// From the end of a conversation to its result.
const EXTRACTION: i64 = 4_000;
/// How long a machine talks before it is recognized as one.
const MACHINE_DETECTION: i64 = 4_000;

/// How long the destination rings unless a scenario file sets it.
pub(crate) fn default_ring_millis(ending: Ending) -> i64 {
    match ending {
        Ending::Completed => 6_000,
        Ending::NoAnswer => 30_000,
        Ending::Busy => 2_000,
        Ending::Canceled => 4_000,
        Ending::Failed => 5_000,
        Ending::Voicemail => 20_000,
    }
}

impl Timeline {
    /// The timeline of an outbound call. `talk` is how long the conversation takes or, with a machine, the message
    /// that is left; 0 for none. Both durations are in milliseconds.
    pub(crate) fn outbound(ending: Ending, ring: i64, talk: i64) -> Self {
        let picked_up = RINGING + ring;
        let unanswered = Self {
            initiated: Some(INITIATED),
            ringing: RINGING,
            ended: picked_up,
            ..Self::default()
        };
        match ending {
            Ending::Completed => unanswered.connect(picked_up, talk),
            Ending::Voicemail => {
                let speech = picked_up + MACHINE_DETECTION;
                Self { speech: (talk > 0).then_some(speech), ended: speech + talk, ..unanswered }
            }
            Ending::NoAnswer | Ending::Busy | Ending::Canceled | Ending::Failed => unanswered,
        }
    }

    /// The timeline of an inbound call: it rings immediately, and the agent picks up two seconds later.
    pub(crate) fn inbound(ending: Ending, talk: i64) -> Self {
        let unanswered = Self { ended: 1_000, ..Self::default() };
        if ending == Ending::Completed { unanswered.connect(2_000, talk) } else { unanswered }
    }

    fn connect(self, answered: i64, talk: i64) -> Self {
        let ended = answered + talk;
        Self {
            answered: Some(answered),
            speech: Some(answered),
            ended,
            extracted: Some(ended + EXTRACTION),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outbound_timelines() {
        let unanswered = |ended| Timeline {
            initiated: Some(1_000),
            ringing: 3_000,
            answered: None,
            speech: None,
            ended,
            extracted: None,
        };
        let cases = [
            (Ending::NoAnswer, 0, unanswered(33_000)),
            (Ending::Busy, 0, unanswered(5_000)),
            (Ending::Canceled, 0, unanswered(7_000)),
            (Ending::Failed, 0, unanswered(8_000)),
            (Ending::Voicemail, 0, unanswered(27_000)),
            (Ending::Voicemail, 9_000, Timeline { speech: Some(27_000), ..unanswered(36_000) }),
            (
                Ending::Completed,
                47_000,
                Timeline {
                    answered: Some(9_000),
                    speech: Some(9_000),
                    extracted: Some(60_000),
                    ..unanswered(56_000)
                },
            ),
        ];
        for (ending, talk, expected) in cases {
            let ring = default_ring_millis(ending);
            assert_eq!(Timeline::outbound(ending, ring, talk), expected, "{ending:?}");
        }
    }
}
