//! Whether the user must confirm an order before it is placed. Does not know how the user is asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::OrderKind;
use super::policy::{Decision, PolicyDecision, PolicyRefusal};

/// When the user is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConfirmMode {
    /// Never; what the rules mark `ask` is refused.
    Never,
    /// For what the rules mark `ask`, every purchase, and, if the client can ask its user, the first call to a
    /// destination.
    Auto,
    /// For every order.
    Always,
}

/// The facts that the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfirmContext {
    pub kind: OrderKind,
    /// Whether a call to this destination was placed before.
    pub known_destination: bool,
    /// Whether the client can ask its user.
    pub client_can_ask: bool,
    /// Only the user's own answer counts, not a token that the model returns.
    pub require_human: bool,
}

/// What an order needs before it may be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    NotRequired,
    /// The user's confirmation, for this reason.
    Ask(String),
    /// The order is refused.
    Refuse(PolicyRefusal),
}

/// Determines whether the user must confirm an order.
#[must_use]
pub fn confirmation_required(
    mode: ConfirmMode,
    decision: &PolicyDecision,
    context: ConfirmContext,
) -> Confirmation {
    let reason = match (&decision.decision, mode) {
        (Decision::Refuse(refusal), _) => return Confirmation::Refuse(refusal.clone()),
        (Decision::Ask(reason), ConfirmMode::Never) => {
            return Confirmation::Refuse(PolicyRefusal {
                rule: decision.rule.clone(),
                reason: format!(
                    "{reason}, and the configuration forbids to ask the user (confirm = \"never\")"
                ),
                until: None,
                remedy: "The user can set confirm = \"auto\" under [dialing], or change the rule."
                    .to_owned(),
            });
        }
        (Decision::Ask(reason), _) => Some(reason.clone()),
        (Decision::Allow, ConfirmMode::Never) => None,
        (Decision::Allow, ConfirmMode::Always) => {
            Some("every order needs confirmation (confirm = \"always\")".to_owned())
        }
        (Decision::Allow, ConfirmMode::Auto) => match context.kind {
            OrderKind::Purchase => Some("a purchase spends money".to_owned()),
            OrderKind::Call if context.client_can_ask && !context.known_destination => {
                Some("this number was never called before".to_owned())
            }
            OrderKind::Call => None,
        },
    };
    match reason {
        None => Confirmation::NotRequired,
        Some(reason) if context.require_human && !context.client_can_ask => {
            Confirmation::Refuse(PolicyRefusal {
                rule: decision.rule.clone(),
                reason: format!(
                    "{reason}, and this client cannot ask its user (require_human = true)"
                ),
                until: None,
                remedy: "The user can use a client that supports elicitation, or set require_human = false under [dialing]."
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
    fn confirmation_is_required_when_rules_or_mode_say_so() {
        use ConfirmMode::{Always, Auto, Never};
        let refusal = PolicyRefusal {
            rule: RuleName::Default,
            reason: "no".into(),
            until: None,
            remedy: String::new(),
        };
        let policy_decision = |decision: &Decision| PolicyDecision {
            decision: decision.clone(),
            rule: RuleName::Default,
            shadow: Vec::new(),
            explanation: Vec::new(),
        };
        let allow = Decision::Allow;
        let ask = Decision::Ask("it is night there".into());
        let refuse = Decision::Refuse(refusal);
        // mode, decision, kind, known destination, client can ask, human required, expected
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
        for (mode, decision, kind, known_destination, client_can_ask, require_human, expected) in
            cases
        {
            let context = ConfirmContext { kind, known_destination, client_can_ask, require_human };
            let required = match confirmation_required(mode, &policy_decision(decision), context) {
                Confirmation::NotRequired => "nothing",
                Confirmation::Ask(_) => "ask",
                Confirmation::Refuse(_) => "refuse",
            };
            assert_eq!(required, expected, "{mode:?} {decision:?} {context:?}");
        }
    }
}
