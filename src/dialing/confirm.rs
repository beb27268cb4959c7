//! Whether the user must confirm an order before it is placed. Does not know how the user is asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::limits::OrderKind;
use super::policy::{Decision, PolicyDecision, PolicyRefusal, RuleName};
use crate::own_command::own_command;

/// When the user is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConfirmMode {
    /// Never; what the rules mark `ask` is refused. A client that cannot ask gets the price of a number before it buys one.
    Never,
    /// For what the rules mark `ask`, every purchase, and, if the client can ask its user, the first call to a
    /// destination.
    Auto,
    /// For every order.
    Always,
}

/// What helps where the user's own answer is needed and the client cannot get it.
pub const CANNOT_ASK_REMEDY: &str = "The user can use a client that asks its user (MCP elicitation), or set require_human = false under [dialing].";

/// The same where the record of a model is what needs the answer.
pub const RECORD_REMEDY: &str =
    "The user can use a client that asks its user (MCP elicitation) or shows the call card.";

const RECORD_NEEDS_ANSWER: &str =
    "it counts only with the user's own answer, and this client cannot ask its user";

/// The facts that the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfirmContext {
    pub kind: OrderKind,
    /// Whether a call to this destination was placed before.
    pub known_destination: bool,
    /// Whether the client can ask its user.
    pub client_can_ask: bool,
    /// Whether a purchase spends real money.
    pub is_live: bool,
    /// A first call, a purchase and what a rule marks `ask` need the user's own answer: a token that the model returns does
    /// not count, and a client that cannot ask is refused.
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

/// Determines whether the user must confirm an order. With `require_human`, every mode asks for what `auto` asks for, and
/// the first call to a destination needs the user's answer from every client.
#[must_use]
pub fn confirmation_required(
    mode: ConfirmMode,
    decision: &PolicyDecision,
    context: ConfirmContext,
) -> Confirmation {
    let ConfirmContext { kind, known_destination, client_can_ask, is_live, require_human } =
        context;
    let is_first_call = kind == OrderKind::Call && !known_destination;
    let (rule, reason) = match &decision.decision {
        Decision::Refuse(refusal) => return Confirmation::Refuse(refusal.clone()),
        Decision::Ask(reason) if decision.depends_on_model_record() && !client_can_ask => {
            let (rule, reason) =
                (decision.rule.clone(), format!("{reason}; {RECORD_NEEDS_ANSWER}"));
            return Confirmation::Refuse(PolicyRefusal::new(rule, reason, RECORD_REMEDY));
        }
        Decision::Ask(reason) => (decision.rule.clone(), reason.clone()),
        Decision::Allow => {
            let reason = if mode == ConfirmMode::Always {
                "every order needs confirmation"
            } else if kind == OrderKind::Purchase && (require_human || mode == ConfirmMode::Auto) {
                "a purchase spends money"
            } else if kind == OrderKind::Purchase && is_live && !client_can_ask {
                // Nobody is asked: the model gets the price and a token.
                return Confirmation::Ask("a purchase spends money".to_owned());
            } else if is_first_call
                && (require_human || (mode == ConfirmMode::Auto && client_can_ask))
            {
                "this number was never called before"
            } else {
                return Confirmation::NotRequired;
            };
            (RuleName::Setting("require_human"), reason.to_owned())
        }
    };
    confirmation_for_ask(mode, rule, reason, client_can_ask, require_human)
}

/// Determines the same for an action that counts as `ask`, for this reason.
#[must_use]
pub fn confirmation_for_ask(
    mode: ConfirmMode,
    rule: RuleName,
    reason: String,
    client_can_ask: bool,
    require_human: bool,
) -> Confirmation {
    let (why, remedy) = if require_human && !client_can_ask {
        (
            "only the user's own answer counts, and this client cannot ask its user",
            CANNOT_ASK_REMEDY,
        )
    } else if mode == ConfirmMode::Never && !require_human {
        (
            "the configuration forbids to ask the user",
            "The user can set confirm = \"auto\" under [dialing], or change the rule.",
        )
    } else {
        return Confirmation::Ask(reason);
    };
    Confirmation::Refuse(PolicyRefusal::new(rule, format!("{reason}; {why}"), remedy))
}

/// The facts on which the confirmation of a batch depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchConfirmContext {
    pub environment: Environment,
    /// How many people would be called.
    pub people: usize,
    /// Whether a rule asks for one of them, or one of them was never called before.
    pub has_reason: bool,
    /// Whether one of them is called by a record that a model wrote.
    pub has_model_record: bool,
    /// Whether a rule with `batch = true` allows each of them.
    pub allows_batch: bool,
    pub client_can_ask: bool,
    pub require_human: bool,
}

/// Determines whether the user must confirm a batch. Outside the sandbox more than one person always needs a yes.
#[must_use]
pub fn batch_confirmation_required(
    mode: ConfirmMode,
    context: BatchConfirmContext,
) -> Confirmation {
    let refuse = |key, reason: &str, remedy: &str| {
        Confirmation::Refuse(PolicyRefusal::new(RuleName::Setting(key), reason, remedy))
    };
    let is_list = context.people > 1 && !context.environment.is_sandbox();
    let reason = if mode == ConfirmMode::Always {
        "every order needs confirmation"
    } else if is_list {
        "it calls several people"
    } else if context.has_reason {
        "a rule asks for it"
    } else {
        return Confirmation::NotRequired;
    };
    if context.has_model_record && !context.client_can_ask {
        let reason = format!("the model wrote the record that a rule needs; {RECORD_NEEDS_ANSWER}");
        return refuse("require_metadata", &reason, RECORD_REMEDY);
    }
    if context.require_human && !context.client_can_ask {
        return refuse(
            "require_human",
            "only the user's own answer counts, and this client cannot ask its user",
            &format!(
                "The user can use a client that asks its user (MCP elicitation), run `{} batch run`, or set require_human \
                 = false under [dialing].",
                own_command()
            ),
        );
    }
    if mode == ConfirmMode::Never && !context.require_human {
        return if context.allows_batch && !context.has_reason {
            Confirmation::NotRequired
        } else {
            refuse(
                "confirm",
                "the configuration forbids to ask the user, and a batch needs a yes",
                "The user can set confirm = \"auto\" under [dialing], or write a rule with batch = true that allows each of \
                 the calls.",
            )
        };
    }
    Confirmation::Ask(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
            required_metadata: Vec::new(),
        };
        let allow = Decision::Allow;
        let ask = Decision::Ask("it is night there".into());
        let refuse = Decision::Refuse(refusal);
        // decision, kind, known destination, and for each of never, auto and always: what a client that can ask gets, and
        // one that cannot; then the same with require_human.
        let cases = [
            (&allow, OrderKind::Call, true, ["--", "--", "??"], ["--", "--", "?x"]),
            (&allow, OrderKind::Call, false, ["--", "?-", "??"], ["?x", "?x", "?x"]),
            (&allow, OrderKind::Purchase, true, ["--", "??", "??"], ["?x", "?x", "?x"]),
            (&allow, OrderKind::Purchase, false, ["--", "??", "??"], ["?x", "?x", "?x"]),
            (&ask, OrderKind::Call, true, ["xx", "??", "??"], ["?x", "?x", "?x"]),
            (&ask, OrderKind::Call, false, ["xx", "??", "??"], ["?x", "?x", "?x"]),
            (&ask, OrderKind::Purchase, true, ["xx", "??", "??"], ["?x", "?x", "?x"]),
            (&refuse, OrderKind::Call, true, ["xx", "xx", "xx"], ["xx", "xx", "xx"]),
            (&refuse, OrderKind::Call, false, ["xx", "xx", "xx"], ["xx", "xx", "xx"]),
        ];
        let cases = [false, true].into_iter().flat_map(|is_live| {
            cases.map(|(decision, kind, known, without, with)| {
                let [never, auto, always] = without;
                // With real money, a client that cannot ask gets a token in every mode.
                let buys = is_live && kind == OrderKind::Purchase && never == "--";
                let without = [if buys { "-?" } else { never }, auto, always];
                (is_live, decision, kind, known, without, with)
            })
        });
        for (is_live, decision, kind, known_destination, without, with) in cases {
            for (require_human, expected) in [(false, without), (true, with)] {
                for (mode, expected) in [Never, Auto, Always].into_iter().zip(expected) {
                    let required: String = [true, false]
                        .map(|client_can_ask| {
                            let context = ConfirmContext {
                                kind,
                                known_destination,
                                client_can_ask,
                                is_live,
                                require_human,
                            };
                            match confirmation_required(mode, &policy_decision(decision), context) {
                                Confirmation::NotRequired => '-',
                                Confirmation::Ask(_) => '?',
                                Confirmation::Refuse(_) => 'x',
                            }
                        })
                        .iter()
                        .collect();
                    let case = (mode, decision, kind, known_destination, is_live, require_human);
                    assert_eq!(required, expected, "{case:?}");
                }
            }
        }
    }

    #[test]
    fn a_record_of_a_model_counts_only_where_the_user_can_be_asked() {
        use ConfirmMode::{Always, Auto, Never};
        let decision = PolicyDecision {
            decision: Decision::Ask("the model wrote".to_owned()),
            rule: RuleName::Default,
            shadow: Vec::new(),
            explanation: Vec::new(),
            required_metadata: vec!["consent".to_owned()],
        };
        for mode in [Never, Auto, Always] {
            for (client_can_ask, require_human) in
                [(true, false), (true, true), (false, false), (false, true)]
            {
                let kind = OrderKind::Call;
                let (known_destination, is_live) = (true, true);
                let context = ConfirmContext {
                    kind,
                    known_destination,
                    client_can_ask,
                    is_live,
                    require_human,
                };
                let call = confirmation_required(mode, &decision, context);
                let batch = batch_confirmation_required(
                    mode,
                    BatchConfirmContext {
                        environment: Environment::Sandbox,
                        people: 1,
                        has_reason: true,
                        has_model_record: true,
                        allows_batch: false,
                        client_can_ask,
                        require_human,
                    },
                );
                let is_asked = client_can_ask && (mode != Never || require_human);
                for confirmation in [call, batch] {
                    let case = (mode, client_can_ask, require_human);
                    assert_eq!(
                        matches!(confirmation, Confirmation::Ask(_)),
                        is_asked,
                        "{case:?}: {confirmation:?}"
                    );
                    assert!(
                        is_asked || matches!(confirmation, Confirmation::Refuse(_)),
                        "{case:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_list_needs_a_yes_outside_the_sandbox() {
        use ConfirmMode::{Always, Auto, Never};
        use Environment::{Live, Sandbox};
        // What a client that can ask and one that cannot is answered: `-` not required, `?` asked, `x` refused.
        for (mode, environment, people, has_reason, allows_batch, require_human, expected) in [
            (Auto, Live, 2, false, false, false, "??"),
            (Auto, Live, 2, false, true, false, "??"),
            (Auto, Live, 1, false, false, false, "--"),
            (Auto, Live, 1, true, false, false, "??"),
            (Auto, Live, 2, false, false, true, "?x"),
            (Never, Live, 2, false, false, false, "xx"),
            (Never, Live, 2, false, true, false, "--"),
            (Never, Live, 2, true, true, false, "xx"),
            (Never, Live, 2, false, true, true, "?x"),
            (Never, Sandbox, 9, false, false, false, "--"),
            (Auto, Sandbox, 9, false, false, false, "--"),
            (Always, Sandbox, 9, false, false, false, "??"),
            (Always, Live, 1, false, true, false, "??"),
        ] {
            let answered: String = [true, false]
                .map(|client_can_ask| {
                    let context = BatchConfirmContext {
                        environment,
                        people,
                        has_reason,
                        has_model_record: false,
                        allows_batch,
                        client_can_ask,
                        require_human,
                    };
                    match batch_confirmation_required(mode, context) {
                        Confirmation::NotRequired => '-',
                        Confirmation::Ask(_) => '?',
                        Confirmation::Refuse(_) => 'x',
                    }
                })
                .iter()
                .collect();
            let case = (mode, environment, people, has_reason, allows_batch, require_human);
            assert_eq!(answered, expected, "{case:?}");
        }
    }
}
