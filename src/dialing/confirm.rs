//! Must a human say yes before this is done? A pure decision; how the human is asked is not known
//! here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::OrderKind;
use super::policy::{Decision, PolicyDecision, PolicyRefusal};

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
pub struct ConfirmContext {
    /// Call or purchase.
    pub kind: OrderKind,
    /// Whether a call to this destination was ever placed.
    pub known_destination: bool,
    /// Whether the client can put a question to its human.
    pub client_can_ask: bool,
    /// Only a human's own answer counts; a token that the model carries does not.
    pub require_human: bool,
}

/// What the judgment and the mode together demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// Go ahead.
    Nothing,
    /// Ask, for this reason.
    Ask(String),
    /// Do not.
    Refuse(PolicyRefusal),
}

/// Decides whether a human must say yes.
#[must_use]
pub fn confirmation_required(
    mode: ConfirmMode,
    verdict: &PolicyDecision,
    situation: ConfirmContext,
) -> Confirmation {
    let reason = match (&verdict.decision, mode) {
        (Decision::Refuse(refusal), _) => return Confirmation::Refuse(refusal.clone()),
        (Decision::Ask(reason), ConfirmMode::Never) => {
            return Confirmation::Refuse(PolicyRefusal {
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
            OrderKind::Purchase => Some("a purchase spends money".to_owned()),
            OrderKind::Call if situation.client_can_ask && !situation.known_destination => {
                Some("this number was never called before".to_owned())
            }
            OrderKind::Call => None,
        },
    };
    match reason {
        None => Confirmation::Nothing,
        Some(reason) if situation.require_human && !situation.client_can_ask => {
            Confirmation::Refuse(PolicyRefusal {
                rule: verdict.rule.clone(),
                reason: format!(
                    "{reason}, and this client cannot ask its human (require_human = true)"
                ),
                until: None,
                remedy: "The human can use a client with elicitation, or set require_human = false under [dialing]."
                    .to_owned(),
            })
        }
        Some(reason) => Confirmation::Ask(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialing::policy::RuleName;

    #[test]
    fn asks_when_it_must_and_fails_closed() {
        use ConfirmMode::{Always, Auto, Never};
        let refusal = PolicyRefusal {
            rule: RuleName::Default,
            reason: "no".into(),
            until: None,
            remedy: String::new(),
        };
        let verdict = |decision: &Decision| PolicyDecision {
            decision: decision.clone(),
            rule: RuleName::Default,
            shadow: Vec::new(),
            explanation: Vec::new(),
        };
        let allow = Decision::Allow;
        let ask = Decision::Ask("it is night there".into());
        let refuse = Decision::Refuse(refusal);
        // mode, decision, kind, known, can ask, human required: what is demanded
        let cases = [
            (Never, &allow, OrderKind::Call, false, true, true, "nothing"),
            (Never, &allow, OrderKind::Purchase, true, true, false, "nothing"),
            (Never, &ask, OrderKind::Call, true, true, false, "refuse"),
            (Auto, &allow, OrderKind::Call, true, true, false, "nothing"),
            (Auto, &allow, OrderKind::Call, false, true, false, "ask"),
            (Auto, &allow, OrderKind::Call, false, false, false, "nothing"),
            (Auto, &allow, OrderKind::Call, false, false, true, "nothing"),
            (Auto, &allow, OrderKind::Purchase, true, false, false, "ask"),
            (Auto, &allow, OrderKind::Purchase, true, false, true, "refuse"),
            (Auto, &ask, OrderKind::Call, true, false, false, "ask"),
            (Auto, &ask, OrderKind::Call, true, false, true, "refuse"),
            (Always, &allow, OrderKind::Call, true, true, true, "ask"),
            (Always, &allow, OrderKind::Call, true, false, false, "ask"),
            (Always, &allow, OrderKind::Call, true, false, true, "refuse"),
            (Always, &refuse, OrderKind::Call, true, true, false, "refuse"),
            (Never, &refuse, OrderKind::Call, true, true, false, "refuse"),
        ];
        for (mode, decision, kind, known_destination, client_can_ask, require_human, wanted) in
            cases
        {
            let situation =
                ConfirmContext { kind, known_destination, client_can_ask, require_human };
            let demanded = match confirmation_required(mode, &verdict(decision), situation) {
                Confirmation::Nothing => "nothing",
                Confirmation::Ask(_) => "ask",
                Confirmation::Refuse(_) => "refuse",
            };
            assert_eq!(demanded, wanted, "{mode:?} {decision:?} {situation:?}");
        }
    }
}
