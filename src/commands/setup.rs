//! `callingbox-mcp setup`: makes the first call from the terminal: API key, number, agent, and a call to the user's own
//! telephone.
//!
//! It keeps no state: each step first checks what exists, so that a second run continues where the first one stopped.
//! Everything that costs money goes through the same [`Dialer`] as the tools, and only after the user typed `yes`.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::output::{print, print_wrapped};
use super::prompt::{Prompter, Stopped, unless_interrupted};
use super::ready_agent::{describe_agent, find_ready_agent};
use super::status_line::StatusLine;
use super::style::Style;
use crate::account::{Account, Environment};
use crate::config::{ConfigFile, KeySource};
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::caller::CallerName;
use crate::dialing::confirm::{ConfirmContext, Confirmation, confirmation_required};
use crate::dialing::destination::parse_callee;
use crate::dialing::dialer::Dialer;
use crate::dialing::disclosure::DisclosureMode;
use crate::dialing::ledger::ConfirmedBy;
use crate::dialing::opt_outs::RESULT_FIELD;
use crate::dialing::order::{DialRequest, Order, Placed, describe_call_cost};
use crate::dialing::outcome::{DialResult, Dialed};
use crate::dialing::policy::refuse_undialable;
use crate::dialing::policy_check::PolicyCheck;
use crate::install;
use crate::mcp::reply::text::one_line;
use crate::own_command::own_command;
use crate::runtime::{HttpExtras, Runtime, client_config};
use crate::settings::ProgramSettings;
use crate::watch::{Follower, Snapshot, WatchOptions, WatchStatus};
use callingbox::E164;
use callingbox::MilliCents;
use callingbox::{
    Agent, AgentCreate, AgentType, ApiClient, ApiKey, AvailableNumber, Call, CallCreate, CallId,
    ErrorKind, NumberSearch, PageRequest, PhoneNumber, ReturnType,
};

/// The default instructions of the agent.
const DEFAULT_INSTRUCTIONS: &str = "Say that this is a test call, ask whether you can be heard well, thank the person \
                    and say goodbye.";

/// The default name of the agent.
const DEFAULT_NAME: &str = "First call";

/// The configuration file that a first setup writes.
const NEW_CONFIG: &str = "\
[dialing]
# Each call is sent with the sentence that tells the agent to say at the beginning that it is an AI.
disclosure = \"add\"
# The sentence names in whose name the agent calls:
# on_behalf_of = \"Northside Dental\"
";

/// The number of phone numbers for sale to show.
const OFFER_COUNT: u32 = 5;

/// Longer than the longest call, for which the credit hold is sized, and the minutes until its result.
const MAX_CALL_TIME: Duration = Duration::from_secs(3_900);

/// The setup stopped before its end.
#[derive(Debug, thiserror::Error)]
#[error("{reason} Finished steps are kept. To continue: {resume_command}")]
pub(super) struct Unfinished {
    pub(super) reason: Stopped,
    resume_command: String,
}

/// What the steps share.
struct Setup {
    prompter: Prompter,
    style: Style,
    account: Arc<Account>,
    next_commands: NextCommands,
}

/// The commands to suggest at the end, for the same environment.
struct NextCommands {
    setup: String,
    install: String,
    doctor: String,
}

pub(super) async fn run(settings: &ProgramSettings) -> anyhow::Result<()> {
    anyhow::ensure!(
        !settings.selection().read_only,
        "setup creates an agent and places a call, but read-only is set; remove --read-only, CALLINGBOX_MCP_READ_ONLY or read_only"
    );
    let style = Style::from_terminal();
    let title = match settings.global.sandbox {
        Some(_) => "The first call, simulated: no telephone rings, nothing is charged.",
        None => "The first call. Nothing is bought and no call is placed before you type yes.",
    };
    print_wrapped(format!("{}\n\n", style.paint("1", title)))?;
    let Err(error) = run_steps(settings, style).await else { return Ok(()) };
    let reason = error.downcast::<Stopped>()?;
    // The cursor may still be behind a question.
    print("\n")?;
    Err(Unfinished { reason, resume_command: resume_command(settings) }.into())
}

async fn run_steps(settings: &ProgramSettings, style: Style) -> anyhow::Result<()> {
    let mut prompter = Prompter::new();
    let mut settings = settings.clone();
    let mut typed_key = None;
    if settings.environment().is_sandbox() {
        print_step(style, "Key", "not needed on the simulator")?;
    } else {
        typed_key = set_up_key(&mut prompter, style, &settings).await?;
        create_config(&mut settings, style)?;
    }
    let runtime = Runtime::open_with(&settings, HttpExtras::default(), typed_key).await?;
    let next_commands = NextCommands {
        setup: settings.command_line("setup"),
        install: settings.command_line("install"),
        doctor: settings.command_line("doctor"),
    };
    let mut setup = Setup { prompter, style, account: runtime.account(), next_commands };
    let result = unless_interrupted(setup.set_up_and_call()).await;
    runtime.finish_dispatches().await;
    // An error of the setup matters more than one of stopping the simulator.
    let closed = runtime.close().await;
    result.and(closed)
}

/// Writes a configuration file if there is none.
fn create_config(settings: &mut ProgramSettings, style: Style) -> anyhow::Result<()> {
    let Some(path) = settings.config_path() else { return Ok(()) };
    if std::fs::symlink_metadata(&path).is_ok() {
        return Ok(());
    }
    install::write_new(&path, NEW_CONFIG)?;
    let written = format!(
        "{}; the instructions of each call tell the agent to say that it is an AI",
        path.display()
    );
    settings.file.dialing.disclosure = DisclosureMode::Add;
    print_step(style, "Configuration", &written)
}

fn resume_command(settings: &ProgramSettings) -> String {
    let program = own_command();
    let mut command = settings.command_line("setup");
    if settings.global.sandbox == Some(None) {
        command.push_str(&format!(
            "\n(The simulator inside this program has now lost its data; {program} sandbox starts one that keeps running.)"
        ));
    }
    command
}

fn print_step(style: Style, what: &str, how: &str) -> anyhow::Result<()> {
    let mark = style.mark("32", "✓", "OK");
    print_wrapped(format!("{mark} {} {how}\n", style.paint("1", &format!("{what}:"))))
}

/// Checks the API key that is set. If there is none, or CallingBox does not accept it, asks for one, stores it, and
/// returns it.
async fn set_up_key(
    prompter: &mut Prompter,
    style: Style,
    settings: &ProgramSettings,
) -> anyhow::Result<Option<ApiKey>> {
    let found = settings.find_credentials()?;
    let client = |key: ApiKey| ApiClient::new(client_config(found.base_url.clone(), key));
    let mut refused = None;
    if let Some((key, source)) = found.key.clone() {
        match client(key).probe().await.result {
            Ok(()) => {
                print_step(style, "Key", &format!("from {source}, accepted"))?;
                return Ok(None);
            }
            Err(error) if is_unauthorized(&error) && std::io::stdin().is_terminal() => {
                print_wrapped(format!("CallingBox does not accept the key from {source}.\n"))?;
                refused = Some(source);
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "the API did not accept the key from {source}; {} doctor shows more",
                        own_command()
                    )
                });
            }
        }
    }
    let path = settings.folders.api_key_file().context(
        "the user has no home folder to store the key in; set CALLINGBOX_API_KEY instead",
    )?;
    for _ in 0..3 {
        let typed =
            prompter.ask_api_key("Your CallingBox API key, sk_… (it is not shown): ").await?;
        let key = match ApiKey::new(typed) {
            Ok(key) => key,
            Err(error) => {
                print_wrapped(format!("  {error}\n"))?;
                continue;
            }
        };
        let candidate = client(key.clone());
        let probe = unless_interrupted(async { Ok(candidate.probe().await) }).await?;
        match probe.result {
            Ok(()) => {
                install::store_key(&path, &key)?;
                let stored =
                    format!("accepted, and stored in {}, readable by you only", path.display());
                print_step(style, "Key", &stored)?;
                print_wrapped(refused.map_or_else(String::new, |refused| {
                    refused_key_note(&refused, &path, &settings.file)
                }))?;
                return Ok(Some(key));
            }
            Err(error) if is_unauthorized(&error) => {
                print_wrapped(
                    "  CallingBox does not accept this key; copy it again from the dashboard.\n",
                )?;
            }
            Err(error) => {
                return Err(error).context("the key could not be checked, so it was not stored");
            }
        }
    }
    Err(Stopped::Unanswered("No key was accepted.").into())
}

fn is_unauthorized(error: &callingbox::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unauthorized { .. })
}

/// What to do with a key that is not accepted and is found before the one in the file at `stored`.
fn refused_key_note(refused: &KeySource, stored: &Path, file: &ConfigFile) -> String {
    let setting = match refused {
        KeySource::EnvVar => "CALLINGBOX_API_KEY".to_owned(),
        KeySource::KeyFile(path) if path != stored => match &file.api_key_file {
            Some(named) if named == path => "api_key_file in the configuration".to_owned(),
            _ => "CALLINGBOX_API_KEY_FILE".to_owned(),
        },
        // The stored key is found first.
        KeySource::KeyFile(_) | KeySource::OfficialConfig(_) => return String::new(),
    };
    format!(
        "  {setting} still leads to the key that is not accepted, and counts before the stored one. Remove it where it is \
         set; until then only this setup uses the new key.\n"
    )
}

impl Setup {
    fn api(&self) -> anyhow::Result<&ApiClient> {
        Ok(self.account.api()?)
    }

    async fn set_up_and_call(&mut self) -> anyhow::Result<()> {
        let page = PageRequest::with_limit(100);
        let numbers = self.api()?.list_numbers(&page).await?.data;
        let agents = self.api()?.list_agents(Some(AgentType::Outbound)).await?.data;
        let agent = match find_ready_agent(&agents, &numbers) {
            Some((agent, number)) => {
                self.print_number(number)?;
                agent.clone()
            }
            None => {
                let number = match numbers.into_iter().find(|number| number.e164.is_some()) {
                    Some(number) => number,
                    None => self.buy_number().await?,
                };
                self.print_number(&number)?;
                self.make_agent(&number).await?
            }
        };
        print_step(self.style, "Agent", &describe_agent(&agent))?;
        self.call_user(&agent).await
    }

    fn print_number(&self, number: &PhoneNumber) -> anyhow::Result<()> {
        let shown = number.e164.as_ref().map_or("one without known digits", E164::as_str);
        print_step(self.style, "Number", shown)
    }

    async fn buy_number(&mut self) -> anyhow::Result<PhoneNumber> {
        print_wrapped("The account has no number to call from yet.\n")?;
        let offers = self.search_offers().await?;
        for (index, offer) in offers.iter().enumerate() {
            print_wrapped(format!("  {}  {}\n", index + 1, describe_offer(offer)))?;
        }
        let question = format!("Which one? (1 to {}, Enter for 1) ", offers.len());
        let offer = self.prompter.ask_until_valid(&question, |answer| {
            let line: usize = if answer.is_empty() { Ok(1) } else { answer.parse() }
                .map_err(|_| "Type the number of a line.".to_owned())?;
            let chosen = line.checked_sub(1).and_then(|index| offers.get(index));
            chosen.cloned().ok_or_else(|| "There is no line with this number.".to_owned())
        });
        let offer = offer.await?;
        let price = offer.purchase_price();
        let order = Order::Number { number: offer.phone_number.clone(), price };
        let question = format!("Buy {}?", describe_offer(&offer));
        let dialed = self.dial(order, None, |_| question).await?;
        match dialed.result {
            DialResult::Placed(Placed::Number(number)) => Ok(*number),
            DialResult::Repeat { product: Some(Placed::Number(number)), .. } => Ok(*number),
            DialResult::Unknown(why) => bail!(
                "it is unknown whether the number was bought: {} Run this again: it first searches for the \
                 purchase",
                one_line(&why, 300)
            ),
            _ => bail!("another program is buying the same number; run this again in a minute"),
        }
    }

    async fn search_offers(&mut self) -> anyhow::Result<Vec<AvailableNumber>> {
        for _ in 0..3 {
            let question = "Area code, three digits such as 415 (Enter for any): ";
            let area_code = self.prompter.ask_until_valid(question, |answer| {
                let is_code = answer.len() == 3 && answer.bytes().all(|byte| byte.is_ascii_digit());
                match answer {
                    "" => Ok(None),
                    _ if is_code => Ok(Some(answer.to_owned())),
                    _ => Err("An area code has three digits.".to_owned()),
                }
            });
            let search = NumberSearch {
                area_code: area_code.await?,
                limit: Some(OFFER_COUNT),
                ..NumberSearch::default()
            };
            let mut offers = self.api()?.search_numbers(&search).await?.data;
            offers.truncate(OFFER_COUNT as usize);
            if !offers.is_empty() {
                return Ok(offers);
            }
            print_wrapped("  No number is for sale there; try another area code.\n")?;
        }
        Err(Stopped::Unanswered("No number was found.").into())
    }

    async fn make_agent(&mut self, number: &PhoneNumber) -> anyhow::Result<Agent> {
        print_wrapped("No agent calls from this number yet.\n")?;
        let or_default = |answer: String, default: &str| {
            if answer.is_empty() { default.to_owned() } else { answer }
        };
        let question =
            format!("What should the agent do on the call? (Enter: {DEFAULT_INSTRUCTIONS}) ");
        let instructions =
            or_default(self.prompter.ask_line(&question).await?, DEFAULT_INSTRUCTIONS);
        let name = or_default(
            self.prompter.ask_line(&format!("What is its name? (Enter: {DEFAULT_NAME}) ")).await?,
            DEFAULT_NAME,
        );
        let mut returns = vec![("heard_well", ReturnType::Boolean), ("remark", ReturnType::String)];
        if self.account.dialer()?.rules().ask_do_not_call {
            returns.push((RESULT_FIELD, ReturnType::Boolean));
        }
        let returns = returns.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect();
        let agent = AgentCreate {
            instructions: Some(instructions),
            returns: Some(returns),
            number_ids: Some(vec![number.id.clone()]),
            ..AgentCreate::new(name, AgentType::Outbound)
        };
        let created = self.api()?.create_agent(&agent).await;
        created.context("the agent may exist nevertheless; run this again: it first checks")
    }

    /// Calls the user's own telephone.
    async fn call_user(&mut self, agent: &Agent) -> anyhow::Result<()> {
        let question = match self.account.environment() {
            Environment::Live => "Your own telephone number, such as +14155550100: ",
            Environment::Sandbox => "The number to call, simulated, such as +13105550100: ",
        };
        let to = self.prompter.ask_until_valid(question, read_callee);
        let to = to.await?;
        let disclosure = self.account.dialer()?.rules().disclosure.decide(agent, None);
        if let Some(reminder) = disclosure.reminder() {
            print_wrapped(format!("{reminder}\n"))?;
        }
        let disclosing_instructions = disclosure
            .into_instructions()
            .map_err(|refusal| anyhow::anyhow!("{}", refusal.describe_for_person()))?;
        if let Some(instructions) = &disclosing_instructions {
            print_wrapped(format!("The agent is told: {}\n", one_line(instructions, 2_000)))?;
        }
        let order = Order::Call(Box::new(CallCreate::new(agent.id.clone(), to.clone())));
        let is_simulated = self.account.environment() == Environment::Sandbox;
        let question = |check: &PolicyCheck| {
            let times = match check.local_times.as_slice() {
                [] => "unknown".to_owned(),
                times => times.join(" or "),
            };
            let kind = if is_simulated { "Simulate a call to" } else { "Call" };
            format!(
                "{kind} {} now? Local time there: {times}. It costs {}.",
                to.as_str(),
                describe_call_cost()
            )
        };
        let dialed = self.dial(order, disclosing_instructions, question).await?;
        let id = match dialed.result {
            DialResult::Placed(product) => CallId::new(product.id()),
            DialResult::Repeat { id, .. } => {
                print_wrapped(
                    "The same call was placed minutes ago. This shows that call; nothing rings now.\n",
                )?;
                CallId::new(id)
            }
            DialResult::Unknown(why) => bail!(
                "it is unknown whether the call was placed: {} It may be ringing. Run this again: it first \
                 searches for the call",
                one_line(&why, 300)
            ),
            DialResult::InFlight => {
                bail!("another program is placing the same call; run this again in a minute")
            }
        };
        self.follow(&id).await
    }

    /// Takes an order through the calling rules, the user's confirmation and the ledger.
    async fn dial(
        &mut self,
        order: Order,
        disclosing_instructions: Option<String>,
        question: impl FnOnce(&PolicyCheck) -> String,
    ) -> anyhow::Result<Dialed> {
        let asked = DialRequest {
            order,
            caller: CallerName::local(),
            idempotency_key: None,
            allow_repeat: false,
            attempt: None,
            disclosing_instructions,
            metadata_source: Default::default(),
        };
        let dialer: Arc<Dialer> = Arc::clone(self.account.dialer()?);
        // A repeated order needs no new check and no confirmation.
        if let Some(dialed) = dialer.find_earlier(&asked).await? {
            return Ok(dialed);
        }
        let check = dialer.check_policy(&asked).await?;
        let rules = dialer.rules();
        let context = ConfirmContext {
            kind: asked.kind(),
            known_destination: check.known_destination,
            client_can_ask: true,
            is_live: true,
            require_human: rules.require_human,
        };
        // `setup` always asks; the calling rules may add a reason.
        let reason = match confirmation_required(rules.confirm, &check.decision, context) {
            Confirmation::Refuse(refusal) => bail!("{}", refusal.describe_for_person()),
            Confirmation::Ask(reason) => format!(" (Confirmation is required because {reason}.)"),
            Confirmation::NotRequired => String::new(),
        };
        self.prompter.require_yes(&format!("{}{reason}", question(&check))).await?;
        let rule = asked.receipt_rule(&check.decision, ConfirmedBy::Terminal);
        Ok(dialer.dial(asked, rule, ConfirmedBy::Terminal).await?)
    }

    /// Shows the call's progress and its outcome.
    async fn follow(&self, id: &CallId) -> anyhow::Result<()> {
        print_wrapped(format!(
            "Following the call {id}. Ctrl-C stops following; the call continues.\n"
        ))?;
        let mut follower =
            self.account.watchers()?.follow(id, WatchOptions { transcript: true })?;
        let shown = tokio::time::timeout(MAX_CALL_TIME, self.print_progress(&mut follower)).await;
        let snapshot = match shown {
            Ok(snapshot) => snapshot?,
            Err(_) => follower.snapshot(),
        };
        match (&snapshot.call, snapshot.state, &snapshot.trouble) {
            (Some(call), WatchStatus::Finished, _) => {
                self.account.dialer()?.record_call_end(call).await;
                self.print_outcome(call)
            }
            (_, _, Some(trouble)) => Err(anyhow::Error::new(trouble.as_ref().clone())
                .context("the call could not be followed to its end; it continues nevertheless")),
            _ => bail!(
                "the call {id} did not end in time; {} receipts shows its outcome later",
                own_command()
            ),
        }
    }

    async fn print_progress(&self, follower: &mut Follower) -> anyhow::Result<Arc<Snapshot>> {
        let (mut status, mut lines) = (None, 0);
        let line = StatusLine::new(self.style);
        let _status = line.show("on the call");
        loop {
            let snapshot = follower.snapshot();
            if let Some(call) = &snapshot.call
                && status.as_ref() != Some(&call.status)
            {
                line.print(format!(
                    "  {}\n",
                    self.style.paint("2", &one_line(call.status.as_str(), 40))
                ))?;
                status = Some(call.status.clone());
            }
            for segment in snapshot.segments.iter().skip(lines) {
                let role = one_line(segment.role.as_deref().unwrap_or("unknown"), 40);
                line.print(self.style.utterance(&role, &one_line(&segment.text, 1_000)))?;
            }
            lines = lines.max(snapshot.segments.len());
            if snapshot.state.is_over() || follower.changed().await.is_none() {
                return Ok(snapshot);
            }
        }
    }

    fn print_outcome(&self, call: &Call) -> anyhow::Result<()> {
        let outcome = CallOutcome::from_call(call);
        let mut text = format!("\n{}", self.style.paint("1;32", outcome.as_str()));
        if let Some(seconds) = call.duration_seconds {
            text.push_str(&format!(", {seconds} s"));
        }
        if let Some(amount) = call.billing_amount_milli_cents {
            text.push_str(&format!(", {amount}"));
        }
        text.push('\n');
        if let Some(result) = call.result.as_ref().filter(|result| !result.is_null()) {
            text.push_str(&format!("result: {}\n", one_line(&result.to_string(), 4_000)));
        }
        if let Some(error) = call.error_message.as_deref() {
            text.push_str(&format!("error: {}\n", one_line(error, 300)));
        }
        text.push_str(&self.next_step(outcome)?);
        print_wrapped(text)
    }

    fn next_step(&self, outcome: CallOutcome) -> anyhow::Result<String> {
        let NextCommands { setup, install, doctor } = &self.next_commands;
        Ok(match outcome {
            CallOutcome::Completed => {
                format!(
                    "\nThe setup is complete. Next: {install} lists the AI clients found here.\n"
                )
            }
            CallOutcome::NoAnswer | CallOutcome::Busy | CallOutcome::Voicemail => {
                let minutes = self.account.dialer()?.rules().repeat_window.as_mins();
                format!(
                    "\nThe setup is complete, but the call did not reach a person. To call again, run {setup} after \
                     {minutes} minutes: a call that is repeated sooner is not placed. {install} lists the AI clients \
                     found here.\n"
                )
            }
            _ => format!(
                "\nThe setup is complete, but the call failed. {doctor} checks what may be wrong.\n"
            ),
        })
    }
}

fn read_callee(answer: &str) -> Result<E164, String> {
    let plain: String =
        answer.chars().filter(|letter| !matches!(letter, ' ' | '-' | '(' | ')')).collect();
    let number =
        parse_callee(&plain).map_err(|error| format!("The number is not valid: {error}."))?;
    refuse_undialable(&number).map_or(Ok(number), |refusal| Err(refusal.describe_for_person()))
}

fn describe_offer(offer: &AvailableNumber) -> String {
    let place = [offer.locality.as_deref(), offer.state.as_deref()];
    let place: Vec<String> = place.into_iter().flatten().map(|part| one_line(part, 40)).collect();
    let price = match (offer.purchase_price(), offer.monthly_cost_cents) {
        (Some(now), Some(monthly)) => {
            format!("{now} now and {} per month after that", MilliCents::from_cents(monthly))
        }
        _ => "at an unknown price".to_owned(),
    };
    format!("{} {} for {price}", offer.phone_number.as_str(), place.join(", "))
}
