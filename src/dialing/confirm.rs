//! Must a human say yes before this is done? A pure decision; how the human is asked is not known
//! here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::Kind;
use super::policy::{Decision, Refusal, Verdict};

/// When a human is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConfirmMode {
    /// Nobody is asked; what the rules mark `ask` is then refused.
    Never,
    /// What the rules mark `ask`, every purchase, and, where the client can ask its human, the first
    /// call to a destination.
    Auto,
    /// Everything.
    Always,
}

/// What is known when it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// Call or purchase.
    pub kind: Kind,
    /// Whether a call to this destination was ever placed.
    pub known_destination: bool,
    /// Whether the client can put a question to its human.
    pub client_can_ask: bool,
    /// Only a human's own answer counts; a token that the model carries does not.
    pub require_human: bool,
}

/// What the judgment and the mode together demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// Go ahead.
    Nothing,
    /// Ask, for this reason.
    Ask(String),
    /// Do not.
    Refuse(Refusal),
}

/// Decides whether a human must say yes.
#[must_use]
pub fn demand(mode: ConfirmMode, verdict: &Verdict, situation: Situation) -> Demand {
    let reason = match (&verdict.decision, mode) {
        (Decision::Refuse(refusal), _) => return Demand::Refuse(refusal.clone()),
        (Decision::Ask(reason), ConfirmMode::Never) => {
            return Demand::Refuse(Refusal {
                rule: verdict.rule.clone(),
                reason: format!("{reason}, and the human may not be asked (confirm = \"never\")"),
                until: None,
                remedy: "The human can set confirm = \"auto\" under [dialing], or change the rule."
                    .to_owned(),
            });
        }
        (Decision::Ask(reason), _) => Some(reason.clone()),
        (Decision::Allow, ConfirmMode::Never) => None,
        (Decision::Allow, ConfirmMode::Always) => {
            Some("everything is confirmed here (confirm = \"always\")".to_owned())
        }
        (Decision::Allow, ConfirmMode::Auto) => match situation.kind {
            Kind::Purchase => Some("a purchase spends money".to_owned()),
            Kind::Call if situation.client_can_ask && !situation.known_destination => {
                Some("this number was never called before".to_owned())
            }
            Kind::Call => None,
        },
    };
    match reason {
        None => Demand::Nothing,
        Some(reason) if situation.require_human && !situation.client_can_ask => {
            Demand::Refuse(Refusal {
                rule: verdict.rule.clone(),
                reason: format!(
                    "{reason}, and this client cannot ask its human (require_human = true)"
                ),
                until: None,
                remedy: "The human can use a client with elicitation, or set require_human = false under [dialing]."
                    .to_owned(),
            })
        }
        Some(reason) => Demand::Ask(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialing::policy::DecidedBy;

    #[test]
    fn asks_when_it_must_and_fails_closed() {
        use ConfirmMode::{Always, Auto, Never};
        let refusal = Refusal {
            rule: DecidedBy::Default,
            reason: "no".into(),
            until: None,
            remedy: String::new(),
        };
        let verdict = |decision: &Decision| Verdict {
            decision: decision.clone(),
            rule: DecidedBy::Default,
            shadow: Vec::new(),
            explanation: Vec::new(),
        };
        let allow = Decision::Allow;
        let ask = Decision::Ask("it is night there".into());
        let refuse = Decision::Refuse(refusal);
        // mode, decision, kind, known, can ask, human required: what is demanded
        let cases = [
            (Never, &allow, Kind::Call, false, true, true, "nothing"),
            (Never, &allow, Kind::Purchase, true, true, false, "nothing"),
            (Never, &ask, Kind::Call, true, true, false, "refuse"),
            (Auto, &allow, Kind::Call, true, true, false, "nothing"),
            (Auto, &allow, Kind::Call, false, true, false, "ask"),
            (Auto, &allow, Kind::Call, false, false, false, "nothing"),
            (Auto, &allow, Kind::Call, false, false, true, "nothing"),
            (Auto, &allow, Kind::Purchase, true, false, false, "ask"),
            (Auto, &allow, Kind::Purchase, true, false, true, "refuse"),
            (Auto, &ask, Kind::Call, true, false, false, "ask"),
            (Auto, &ask, Kind::Call, true, false, true, "refuse"),
            (Always, &allow, Kind::Call, true, true, true, "ask"),
            (Always, &allow, Kind::Call, true, false, false, "ask"),
            (Always, &allow, Kind::Call, true, false, true, "refuse"),
            (Always, &refuse, Kind::Call, true, true, false, "refuse"),
            (Never, &refuse, Kind::Call, true, true, false, "refuse"),
        ];
        for (mode, decision, kind, known_destination, client_can_ask, require_human, wanted) in
            cases
        {
            let situation = Situation { kind, known_destination, client_can_ask, require_human };
            let demanded = match demand(mode, &verdict(decision), situation) {
                Demand::Nothing => "nothing",
                Demand::Ask(_) => "ask",
                Demand::Refuse(_) => "refuse",
            };
            assert_eq!(demanded, wanted, "{mode:?} {decision:?} {situation:?}");
        }
    }
}
