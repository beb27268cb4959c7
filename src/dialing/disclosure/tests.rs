use serde_json::json;

use super::sentences::{SentenceKind, table};
use super::*;

fn agent(persona: &str, instructions: Option<&str>, language: Option<&str>) -> Agent {
    serde_json::from_value(json!({
        "id": "agt_1", "type": "outbound", "persona": persona, "instructions": instructions,
        "language": language,
    }))
    .unwrap()
}

fn rules(mode: DisclosureMode) -> DisclosureRules {
    DisclosureRules { mode, on_behalf_of: None }
}

fn decide(mode: DisclosureMode, persona: &str, task: &str) -> DisclosureDecision {
    rules(mode).decide(&agent(persona, None, None), Some(task))
}

fn instructs_disclosure(task: &str) -> bool {
    decide(DisclosureMode::Remind, "", task) == DisclosureDecision::Unchanged
}

const SENTENCE: &str = "At the beginning of the call, say that you are an AI assistant.";

#[test]
fn every_line_of_the_table_is_read_as_its_kind() {
    let lines = include_str!("data/sentences.tsv").lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.count(), table().len());
    let languages = ["de", "en", "es", "fr", "it", "ja", "nl", "pl", "pt", "zh"];
    for language in languages {
        let count = |kind| {
            table().iter().filter(|row| row.language == language && row.kind == kind).count()
        };
        assert_eq!(count(SentenceKind::Add), 1, "{language}");
        assert_eq!(count(SentenceKind::Behalf), 1, "{language}");
        assert!((1..=5).contains(&count(SentenceKind::Also)), "{language}");
        for kind in [SentenceKind::Forbids, SentenceKind::Says, SentenceKind::Denies] {
            assert!(count(kind) > 0, "{language}");
        }
    }
    for row in table() {
        assert!(languages.contains(&row.language), "{}", row.language);
        let agent = agent("", Some(row.sentence), Some(row.language));
        let decided = rules(DisclosureMode::Require).decide(&agent, None);
        match row.kind {
            SentenceKind::Add | SentenceKind::Also => {
                assert_eq!(decided, DisclosureDecision::Unchanged, "{}", row.sentence);
            }
            SentenceKind::Behalf => assert!(row.sentence.contains("{name}"), "{}", row.sentence),
            SentenceKind::Says => {
                let said = SpokenDisclosure::from_agent_lines(["Hello.", row.sentence]);
                assert_eq!(said, SpokenDisclosure::Said, "{}", row.sentence);
            }
            SentenceKind::Denies => {
                let line = format!("{} AI assistant", row.sentence);
                let denied = SpokenDisclosure::from_agent_lines([line.as_str()]);
                assert_eq!(denied, SpokenDisclosure::NotFound, "{}", row.sentence);
            }
            SentenceKind::Forbids | SentenceKind::Claims => {
                let DisclosureDecision::Refuse(refusal) = decided else {
                    panic!("{}", row.sentence)
                };
                assert!(refusal.reason.contains("forbid the agent"), "{refusal}");
            }
        }
    }
}

#[test]
fn only_a_whole_sentence_that_instructs_the_agent_counts() {
    for told in [
        SENTENCE,
        "Ask for a table.  AT THE BEGINNING OF THE CALL, say\n   that you are an AI assistant. Then say goodbye.",
        "Be kind!\n\n- Ask for a table\n- Begin the call by saying that you are an AI assistant\n- Say goodbye",
        "Rufen Sie die Praxis an. Sagen Sie zu Beginn des Gesprächs, dass Sie ein KI-Assistent sind.",
        "予約を取ってください。通話の最初に、自分がＡＩアシスタントであることを伝えてください。",
    ] {
        assert!(instructs_disclosure(told), "{told}");
    }
    for not_told in [
        "",
        "You are an AI assistant.",
        "If asked, say that you are an AI assistant.",
        "If asked, at the beginning of the call, say that you are an AI assistant.",
        "Never\nat the beginning of the call, say that you are an AI assistant.",
        "At the beginning of the call, say that you are an AI assistant if you are asked.",
        "At the beginning of the call, say that you are an AI assistant, but only if asked.",
        "At the beginning of the call, say that you are an AI assistant\nonly if you are asked.",
        "At the end of the call, say that you are an AI assistant.",
    ] {
        assert!(!instructs_disclosure(not_told), "{not_told}");
    }
    // The persona counts as well.
    let by_persona = decide(DisclosureMode::Require, SENTENCE, "Ask for a table.");
    assert_eq!(by_persona, DisclosureDecision::Unchanged);
}

#[test]
fn a_text_that_forbids_it_is_refused_with_its_words() {
    for (text, words) in [
        ("Do not say that you are an AI.", "do not say that you are an AI"),
        ("Ask. Don’t  mention that\nyou are an AI model.", "don't mention that you are an AI"),
        ("Pretend to be human and ask.", "Pretend to be human"),
        ("不要说你是AI。", "不要说你是AI"),
    ] {
        for text in [text.to_owned(), format!("{SENTENCE} {text}")] {
            for mode in [DisclosureMode::Require, DisclosureMode::Add] {
                let DisclosureDecision::Refuse(refusal) = decide(mode, "", &text) else {
                    panic!("{text}")
                };
                assert!(refusal.to_string().contains(&format!("(\"{words}\")")), "{refusal}");
            }
            let reminded = decide(DisclosureMode::Remind, "", &text);
            assert!(reminded.reminder().unwrap().contains(words), "{reminded:?}");
            assert_eq!(decide(DisclosureMode::Off, "", &text), DisclosureDecision::Unchanged);
        }
    }
    for harmless in ["Do not pretend to be human.", "Never say that you are a human."] {
        let text = format!("{harmless} {SENTENCE}");
        assert_eq!(decide(DisclosureMode::Require, "", &text), DisclosureDecision::Unchanged);
    }
}

#[test]
fn add_puts_the_sentence_before_the_instructions_that_would_be_sent() {
    let by = |name: Option<&str>, agent: &Agent, task: Option<&str>| {
        let on_behalf_of = name.map(str::to_owned);
        DisclosureRules { mode: DisclosureMode::Add, on_behalf_of }.decide(agent, task)
    };
    let add = |text: &str| DisclosureDecision::Add(text.to_owned());
    let plain = agent("You are Mia.", Some("Confirm the visit."), Some("en-US"));
    assert_eq!(
        by(None, &plain, Some("Ask for a table.")),
        add(&format!("{SENTENCE}\n\nAsk for a table."))
    );
    assert_eq!(by(None, &plain, None), add(&format!("{SENTENCE}\n\nConfirm the visit.")));
    assert_eq!(
        by(Some("Northside Dental"), &plain, None),
        add(&format!(
            "{SENTENCE} Say that you call on behalf of Northside Dental.\n\nConfirm the visit."
        ))
    );
    let german = agent("", None, Some("de"));
    assert_eq!(
        by(Some("Praxis Nord"), &german, None),
        add(
            "Sagen Sie zu Beginn des Gesprächs, dass Sie ein KI-Assistent sind. Sagen Sie, dass Sie im Auftrag von Praxis \
             Nord anrufen."
        )
    );
    // What is sent counts, so that nothing is added twice.
    let DisclosureDecision::Add(sent) = by(None, &plain, None) else { panic!() };
    assert_eq!(by(None, &plain, Some(&sent)), DisclosureDecision::Unchanged);
    let long = "a".repeat(MAX_INSTRUCTIONS);
    assert!(matches!(by(None, &plain, Some(&long)), DisclosureDecision::Refuse(_)));
}

#[test]
fn a_language_without_sentences_cannot_be_checked() {
    let korean = agent("", Some("예약을 확인하세요."), Some("ko-KR"));
    let reminded = rules(DisclosureMode::Remind).decide(&korean, None);
    assert!(reminded.reminder().unwrap().starts_with("It cannot be checked"), "{reminded:?}");
    for mode in [DisclosureMode::Require, DisclosureMode::Add] {
        assert!(matches!(rules(mode).decide(&korean, None), DisclosureDecision::Refuse(_)));
    }
    // A sentence of another language obliges the agent too.
    let told = rules(DisclosureMode::Require).decide(&korean, Some(SENTENCE));
    assert_eq!(told, DisclosureDecision::Unchanged);
}

#[test]
fn inbound_agents_are_not_touched() {
    let inbound: Agent = serde_json::from_value(json!({"id": "agt_1", "type": "inbound"})).unwrap();
    for mode in [DisclosureMode::Remind, DisclosureMode::Require, DisclosureMode::Add] {
        assert_eq!(rules(mode).decide(&inbound, None), DisclosureDecision::Unchanged);
    }
}

#[test]
fn the_first_words_of_the_agent_count() {
    use SpokenDisclosure::{NoTranscript, NotFound, Said};
    for (lines, expected) in [
        (&[][..], NoTranscript),
        (&["Hello, this is Mia, an AI\nassistant of Northside Dental."], Said),
        (&["Hi!", "Am I speaking with Sam?", "I’m AN  AI."], Said),
        (&["Guten Tag, hier ist Mia, die KI-Assistentin der Praxis Nord."], Said),
        (&["こんにちは。ＡＩアシスタントの美亜です。"], Said),
        (&["Hello, this is an automated assistant."], NotFound),
        (&["Hello, this is Mia.", "I am not an AI assistant."], NotFound),
        (&["Je ne suis pas une IA."], NotFound),
        (&["I have a plan AID said.", "Said AI."], NotFound),
        (&["Hello.", "It is about Tuesday.", "Thank you.", "I am an AI, since you ask."], NotFound),
    ] {
        assert_eq!(
            SpokenDisclosure::from_agent_lines(lines.iter().copied()),
            expected,
            "{lines:?}"
        );
    }
}
