//! Reads the conversations as a person would: for every usual field, both answers and every language.

use serde_json::{Map, Value, json};

use super::brief::AgentBrief;
use super::conversation::{script_conversation, script_voicemail};
use super::fields::tests::usual_fields;
use super::script::{FieldType, Role, Script};
use super::table::Speech;
use crate::seed::SeededRng;

const LANGUAGES: [&str; 4] = ["en", "de", "es", "fr"];
const PERSONA: &str =
    "You are Mia, a calm assistant of Northside Dental. Never mention the quokka.";
const INSTRUCTIONS: &str =
    "Greet the zebra, then remind of the appointment and ask whether the time still suits.";

/// An agent and the call that it makes.
struct Case {
    language: &'static str,
    persona: Option<&'static str>,
    instructions: Option<&'static str>,
    context: Value,
    returns: Vec<(String, FieldType)>,
    is_inbound: bool,
}

impl Case {
    fn new(language: &'static str, context: Value, returns: &[(&str, FieldType)]) -> Self {
        let returns = returns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        let (persona, instructions) = (Some(PERSONA), Some(INSTRUCTIONS));
        Self { language, persona, instructions, context, returns, is_inbound: false }
    }

    fn with_brief<T>(&self, use_brief: impl FnOnce(&AgentBrief<'_>) -> T) -> T {
        use_brief(&AgentBrief {
            language: Some(self.language),
            persona: self.persona,
            instructions: self.instructions,
            context: self.context.as_object().unwrap_or(&Map::new()),
            returns: &self.returns,
            is_inbound: self.is_inbound,
        })
    }

    fn script(&self, speech: Speech, seed: u64) -> Script {
        let rng = SeededRng::new(seed, &[b"call"]);
        self.with_brief(|brief| script_conversation(speech, brief, rng))
    }

    /// The first conversation in which this field has this value.
    fn script_with(&self, field: &str, value: &Value) -> Script {
        let scripts = (0..100).map(|seed| self.script(Speech::Conversation, seed));
        scripts.into_iter().find(|script| script.result[field] == *value).unwrap()
    }
}

fn render(script: &Script) -> String {
    let lines = script.lines.iter().map(|line| format!("{:?}: {}\n", line.role, line.text));
    format!("{}{}", lines.collect::<String>(), Value::Object(script.result.clone()))
}

/// Asserts what holds for every conversation: whole sentences, nothing read out, a result that was said.
fn assert_reads_naturally(script: &Script) {
    let text = render(script);
    for line in &script.lines {
        let last = line.text.trim_end_matches('”').chars().last();
        assert!(last.is_some_and(|c| ".?!".contains(c)), "{text}");
        let first = line.text.chars().find(|c| c.is_alphanumeric());
        assert!(first.is_some_and(|c| c.is_uppercase() || c.is_ascii_digit()), "{text}");
        for wrong in ["{", "}", "  ", " ,", "..", "quokka", "zebra", "calm assistant"] {
            assert!(!line.text.contains(wrong), "{wrong:?}: {text}");
        }
    }
    let is_alternating = script.lines.windows(2).all(|pair| pair[0].role != pair[1].role);
    let is_message = script.lines.iter().all(|line| line.role == Role::Agent);
    assert!(is_alternating || is_message, "{text}");
    let spoken: Vec<String> = script.lines.iter().map(|line| line.text.to_lowercase()).collect();
    for value in script.result.values() {
        let said = match value {
            Value::String(text) => text.to_lowercase(),
            Value::Number(number) => number.to_string(),
            _ => continue,
        };
        assert!(spoken.iter().any(|line| line.contains(&said)), "{said}: {text}");
    }
}

/// Whether a question quotes the name of the field, for want of a better one.
fn names_field(script: &Script) -> bool {
    script.lines.iter().any(|line| line.text.contains(['“', '„', '«']))
}

#[test]
fn every_usual_field_is_asked_for_and_answered_in_every_language() {
    let context = json!({"patient": "Sam Doe", "time": "tomorrow at 10"});
    for language in LANGUAGES {
        for (topic, name, is_boolean) in usual_fields() {
            let kinds = match is_boolean {
                true => vec![FieldType::Boolean],
                false => vec![FieldType::String, FieldType::Number],
            };
            for kind in kinds {
                let mut case = Case::new(language, context.clone(), &[(&name, kind)]);
                for (is_inbound, has_context) in [(false, true), (false, false), (true, false)] {
                    case.is_inbound = is_inbound;
                    if !has_context {
                        case.context = json!({});
                    }
                    let script = case.script(Speech::Conversation, 7);
                    assert_reads_naturally(&script);
                    assert_ne!(script.result[&name], Value::Null, "{name}: {}", render(&script));
                    let has_phrases = kind != FieldType::Number || topic.range.is_some();
                    let has_phrases = has_phrases && topic.id != "other";
                    assert!(!has_phrases || !names_field(&script), "{}", render(&script));
                }
                case.context = context.clone();
                case.is_inbound = false;
                if is_boolean && topic.yes_in_four < 4 {
                    let answers = [true, false].map(|answer| {
                        let script = case.script_with(&name, &json!(answer));
                        assert_reads_naturally(&script);
                        script.lines[4].text.clone()
                    });
                    assert_ne!(answers[0], answers[1], "{language} {name}");
                }
            }
        }
    }
}

#[test]
fn a_yes_leaves_the_alternatives_null_and_a_no_fills_them() {
    let decisions = ["confirmed", "can_come", "available"];
    for language in LANGUAGES {
        for decision in decisions {
            let fields = [
                ("new_time", FieldType::String),
                ("reason", FieldType::String),
                ("party_size", FieldType::Number),
                (decision, FieldType::Boolean),
            ];
            let case = Case::new(language, json!({}), &fields);
            let yes = case.script_with(decision, &json!(true));
            assert_eq!(
                (&yes.result["new_time"], &yes.result["reason"]),
                (&Value::Null, &Value::Null)
            );
            assert!(yes.result["party_size"].is_number(), "{}", render(&yes));
            let no = case.script_with(decision, &json!(false));
            assert!(no.result["new_time"].is_string() && no.result["reason"].is_string());
            assert_eq!(no.result["party_size"], Value::Null, "{}", render(&no));
            for script in [yes, no] {
                assert_reads_naturally(&script);
            }
        }
        let fields = [
            ("interested", FieldType::Boolean),
            ("email", FieldType::String),
            ("budget", FieldType::Number),
            ("objection", FieldType::String),
        ];
        let case = Case::new(language, json!({}), &fields);
        let no = case.script_with("interested", &json!(false));
        assert_eq!((&no.result["email"], &no.result["budget"]), (&Value::Null, &Value::Null));
        assert!(no.result["objection"].is_string());
        let yes = case.script_with("interested", &json!(true));
        assert!(yes.result["email"].as_str().unwrap().ends_with("example.com"));
        assert!(yes.result["budget"].is_number() && yes.result["objection"].is_null());
    }
}

/// The dialogues of `dialogues.txt`, which `UPDATE_DOCS=1` writes.
#[test]
fn the_dialogues_are_as_published() {
    let mut text = String::new();
    let mut add = |title: &str, script: &Script| {
        assert_reads_naturally(script);
        text.push_str(&format!("== {title}\n{}\n\n", render(script)));
    };
    let appointment = json!({"patient": "Sam Doe", "appointment": "2026-12-01T10:30:00-08:00"});
    for language in LANGUAGES {
        let fields = [
            ("confirmed", FieldType::Boolean),
            ("new_time", FieldType::String),
            ("reason", FieldType::String),
        ];
        let mut reminder = Case::new(language, appointment.clone(), &fields);
        for (title, answer) in [("a yes", true), ("a no", false)] {
            let script = reminder.script_with("confirmed", &json!(answer));
            add(&format!("{language}: {title}"), &script);
        }
        add(&format!("{language}: the wrong person"), &reminder.script(Speech::WrongPerson, 1));
        add(&format!("{language}: never again"), &reminder.script(Speech::OptOut, 1));
        let rng = SeededRng::new(1, &[b"call"]);
        let message = reminder.with_brief(|brief| script_voicemail(brief, rng));
        add(&format!("{language}: a machine"), &message);
        reminder.is_inbound = true;
        reminder.context = json!({});
        add(&format!("{language}: a caller"), &reminder.script(Speech::Conversation, 1));

        let fields = [
            ("interested", FieldType::Boolean),
            ("name", FieldType::String),
            ("budget", FieldType::Number),
            ("email", FieldType::String),
        ];
        let mut sale = Case::new(language, json!({}), &fields);
        sale.persona = Some("You are a polite assistant at Lakeside Solar.");
        sale.instructions = Some("Ask what they think of it.");
        let script = sale.script_with("interested", &json!(true));
        add(&format!("{language}: an offer"), &script);

        let fields = [
            ("satisfied", FieldType::Boolean),
            ("rating", FieldType::Number),
            ("feedback", FieldType::String),
            ("pets_allowed", FieldType::Boolean),
        ];
        let mut survey = Case::new(language, json!({}), &fields);
        (survey.persona, survey.instructions) = (None, None);
        let script = survey.script_with("satisfied", &json!(false));
        add(&format!("{language}: a survey"), &script);
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/scenario/dialogues.txt");
        std::fs::write(file, &text).unwrap();
        return;
    }
    let published = include_str!("dialogues.txt");
    for (line, expected) in text.lines().zip(published.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(text, published);
}

#[test]
fn who_calls_for_a_person_says_so_and_another_time_is_not_the_present_one() {
    let fields = [("moved", FieldType::Boolean), ("new_time", FieldType::String)];
    for (language, persona, time, greeting) in [
        (
            "en",
            "You are Ana, calling for Sam Lee.",
            "Tuesday 3 pm",
            "this is Ana, calling for Sam Lee.",
        ),
        (
            "de",
            "Du bist Ana und rufst an für Sam Lee.",
            "Dienstag, 15 Uhr",
            "Ich rufe für Sam Lee an.",
        ),
        (
            "es",
            "Eres Ana y llamas para Sam Lee.",
            "el martes a las 15",
            "Le llamo de parte de Sam Lee.",
        ),
        ("fr", "Tu es Ana, pour Sam Lee.", "mardi à 15 h", "de la part de Sam Lee."),
    ] {
        let context = json!({"patient": "Sam Lee", "appointment": time});
        let mut case = Case::new(language, context, &fields);
        case.persona = Some(persona);
        case.instructions = Some("Move the appointment.");
        let weekday = time.split([' ', ',']).find(|word| word.len() > 4).unwrap().to_lowercase();
        for seed in 0..20 {
            let script = case.script(Speech::Conversation, seed);
            assert_reads_naturally(&script);
            let text = render(&script);
            assert!(text.contains(greeting) && !text.contains("Sam Lee?"), "{text}");
            let new_time = script.result["new_time"].as_str().unwrap_or_default().to_lowercase();
            assert!(!new_time.contains(&weekday), "{text}");
        }
    }
}

#[test]
fn only_who_asks_is_not_called_again() {
    let fields = [("confirmed", FieldType::Boolean), ("do_not_call", FieldType::Boolean)];
    for is_inbound in [false, true] {
        let mut case = Case::new("en", json!({}), &fields);
        case.is_inbound = is_inbound;
        for seed in 0..20 {
            let script = case.script(Speech::Conversation, seed);
            assert_eq!(script.result.get("do_not_call"), Some(&json!(false)));
            assert!(!render(&script).to_lowercase().contains("do not call"), "{}", render(&script));
        }
        let script = case.script(Speech::OptOut, 1);
        assert_eq!(
            Value::from(script.result.clone()),
            json!({"confirmed": null, "do_not_call": true})
        );
        assert!(render(&script).contains("Please do not call me again."), "{}", render(&script));
        let script = case.script(Speech::WrongPerson, 1);
        assert_eq!(script.result.get("do_not_call"), Some(&json!(null)));
    }
}

#[test]
fn values_of_the_context_that_the_callee_accepts_are_in_the_result() {
    let fields = [
        ("booked", FieldType::Boolean),
        ("time", FieldType::String),
        ("party_size", FieldType::Number),
    ];
    for language in LANGUAGES {
        let context = json!({"time": "7 pm", "party_size": 4});
        let mut case = Case::new(language, context, &fields);
        case.instructions = Some("Book a table in a restaurant.");
        let agreed = case.script_with("booked", &json!(true));
        let expected = json!({"booked": true, "time": "7 pm", "party_size": 4});
        assert_eq!(Value::Object(agreed.result.clone()), expected, "{}", render(&agreed));
        assert!(render(&agreed).contains("7 pm"), "{}", render(&agreed));
        let refused = case.script_with("booked", &json!(false));
        assert_ne!(refused.result["time"], "7 pm", "{}", render(&refused));
        assert_reads_naturally(&agreed);
    }
}

#[test]
fn lines_do_not_overlap() {
    let fields = [("confirmed", FieldType::Boolean), ("new_time", FieldType::String)];
    let case = Case::new("en", json!({}), &fields);
    for speech in [Speech::Conversation, Speech::Long, Speech::WrongPerson, Speech::Hostile] {
        let mut previous_end = 0;
        for line in &case.script(speech, 1).lines {
            let in_order = line.starts_at >= previous_end && line.ends_at > line.starts_at;
            assert!(in_order, "{speech:?} {line:?}");
            previous_end = line.ends_at;
        }
    }
}

#[test]
fn special_speeches() {
    let fields = [("confirmed", FieldType::Boolean), ("note", FieldType::String)];
    for language in LANGUAGES {
        let case = Case::new(language, json!({}), &fields);
        let long = case.script(Speech::Long, 1);
        assert_eq!(long.duration_millis(), 1_800_000);
        assert!(long.lines.len() > 300, "{}", long.lines.len());
        assert_reads_naturally(&long);
        let all_null = json!({"confirmed": null, "note": null});
        for speech in [Speech::WrongPerson, Speech::Unreadable] {
            let script = case.script(speech, 1);
            assert_eq!(Value::Object(script.result.clone()), all_null);
            assert_reads_naturally(&script);
        }
        let hostile = case.script(Speech::Hostile, 1);
        let order = hostile.result["note"].as_str().unwrap();
        let said = hostile.lines.iter().filter(|line| line.role == Role::User);
        assert!(order.contains("place_call"), "{order}");
        assert_eq!(said.filter(|line| line.text.contains(order)).count(), 2);
    }
}
