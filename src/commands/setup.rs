//! `callingbox-mcp setup`: from nothing to the first call, in the terminal: key, number, agent, and a
//! call to one's own telephone.
//!
//! It keeps no state: each step first looks at what is there, so that a second run goes on where the
//! first one stopped. What costs money goes through the same [`Dialer`] as the tools, and only after
//! the person typed `yes`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::output::print;
use super::prompt::{Asker, Stopped, unless_interrupted};
use super::ready_agent;
use super::status_line::Live;
use super::style::Style;
use crate::account::{Account, Environment};
use crate::cli::Global;
use crate::config::{self, ConfigFile, UserFolders};
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::confirm::{ConfirmContext, Confirmation, confirmation_required};
use crate::dialing::dialer::Dialer;
use crate::dialing::ledger::ConfirmedBy;
use crate::dialing::order::{CALL_HOLD, DialRequest, Order, Placed};
use crate::dialing::outcome::{DialResult, Dialed};
use crate::dialing::policy_check::PolicyCheck;
use crate::env_var::read_env_var;
use crate::install;
use crate::mcp::reply::text::one_line;
use crate::runtime::{Runtime, client_config};
use crate::watch::{Follower, Snapshot, WatchOptions, WatchStatus};
use callingbox::E164;
use callingbox::MilliCents;
use callingbox::{
    Agent, AgentCreate, AgentType, ApiClient, ApiKey, AvailableNumber, Call, CallCreate, CallId,
    ErrorKind, NumberSearch, PageRequest, PhoneNumber, ReturnType,
};

/// What the agent does if nothing else is said.
const TASK: &str = "Say that this is a test call, ask whether you can be heard well, thank the person \
                    and say goodbye.";

/// How the agent is called if nothing else is said.
const NAME: &str = "First call";

/// How many numbers for sale are shown.
const OFFERS: u32 = 5;

/// No call lasts longer (the hold is sized by it), and its result follows within minutes.
const LONGEST_CALL: Duration = Duration::from_secs(3_900);

/// It stopped before its end.
#[derive(Debug, thiserror::Error)]
#[error("{why} What is done stays done. To go on: {again}")]
pub(super) struct Unfinished {
    pub(super) why: Stopped,
    /// The command that goes on.
    again: String,
}

/// What the steps share.
struct Desk {
    ask: Asker,
    style: Style,
    account: Arc<Account>,
    /// The commands that are told of at the end, as they are typed for this environment.
    next: Next,
}

/// What there is to do after the first call.
struct Next {
    install: String,
    doctor: String,
}

pub(super) async fn run(
    global: &Global,
    file: &ConfigFile,
    folders: &UserFolders,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        !global.selection(file).read_only,
        "setup makes an agent and a call, and read_only is set here"
    );
    let style = Style::of_terminal();
    let title = match global.sandbox {
        Some(_) => "A first call, simulated: no telephone rings, nothing is charged.",
        None => "A first call. Nothing is bought and nobody is called before you type yes.",
    };
    print(format!("{}\n\n", style.paint("1", title)))?;
    let Err(error) = steps(global, file, folders, style).await else { return Ok(()) };
    let why = error.downcast::<Stopped>()?;
    // The question may still stand in the line.
    print("\n")?;
    Err(Unfinished { why, again: again(global) }.into())
}

async fn steps(
    global: &Global,
    file: &ConfigFile,
    folders: &UserFolders,
    style: Style,
) -> anyhow::Result<()> {
    let mut ask = Asker::new();
    if global.sandbox.is_none() {
        key(&mut ask, style, file, folders).await?;
    } else {
        step(style, "Key", "none needed on the simulator")?;
    }
    let environment = Runtime::open(global, file, folders).await?;
    let next =
        Next { install: global.command_line("install"), doctor: global.command_line("doctor") };
    let mut desk = Desk { ask, style, account: environment.account(), next };
    let called = unless_interrupted(desk.number_agent_and_call()).await;
    environment.finish_dispatches().await;
    // What the person is told goes before how the simulator ends.
    let closed = environment.close().await;
    called.and(closed)
}

/// The command that goes on where this one stopped.
fn again(global: &Global) -> String {
    let mut command = global.command_line("setup");
    if global.sandbox == Some(None) {
        command.push_str(
            "\n(The simulator inside this program forgets everything; one that stays is started by \
             callingbox-mcp sandbox.)",
        );
    }
    command
}

/// One thing that is there now.
fn step(style: Style, what: &str, how: &str) -> anyhow::Result<()> {
    let mark = style.mark("32", "✓", "OK");
    print(format!("{mark} {} {how}\n", style.paint("1", &format!("{what}:"))))
}

/// A key that the API takes: the one that is set, or one that is asked for and kept.
async fn key(
    ask: &mut Asker,
    style: Style,
    file: &ConfigFile,
    folders: &UserFolders,
) -> anyhow::Result<()> {
    let found = config::find_credentials(file, &read_env_var, folders)?;
    let client = |key: ApiKey| ApiClient::new(client_config(found.base_url.clone(), key));
    if let Some((key, source)) = found.key.clone() {
        let probe = client(key).probe().await;
        probe.result.with_context(|| {
            format!("the key from {source} did not open the API; callingbox-mcp doctor says more")
        })?;
        return step(style, "Key", &format!("from {source}, accepted"));
    }
    let path = folders.api_key_file().context(
        "there is no folder to keep the key in (HOME is not set): set CALLINGBOX_API_KEY instead",
    )?;
    for _ in 0..3 {
        let typed = ask.secret("Your CallingBox API key, sk_… (it is not shown): ").await?;
        let key = match ApiKey::new(typed) {
            Ok(key) => key,
            Err(error) => {
                print(format!("  {error}\n"))?;
                continue;
            }
        };
        let tried = client(key.clone());
        let probe = unless_interrupted(async { Ok(tried.probe().await) }).await?;
        match probe.result {
            Ok(()) => {
                install::store_key(&path, &key)?;
                let kept = format!("accepted, and kept in {}, for you alone", path.display());
                return step(style, "Key", &kept);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Unauthorized { .. }) => {
                print("  CallingBox does not know this key; copy it again from the dashboard.\n")?;
            }
            Err(error) => {
                return Err(error).context("the key could not be tried, so it was not kept");
            }
        }
    }
    Err(Stopped::Unanswered("No key was accepted.").into())
}

impl Desk {
    fn api(&self) -> anyhow::Result<&ApiClient> {
        Ok(self.account.api()?)
    }

    async fn number_agent_and_call(&mut self) -> anyhow::Result<()> {
        let page = PageRequest::with_limit(100);
        let numbers = self.api()?.list_numbers(&page).await?.data;
        let agents = self.api()?.list_agents(Some(AgentType::Outbound)).await?.data;
        let agent = match ready_agent::ready(&agents, &numbers) {
            Some((agent, number)) => {
                self.has_number(number)?;
                agent.clone()
            }
            None => {
                let number = match numbers.into_iter().find(|number| number.e164.is_some()) {
                    Some(number) => number,
                    None => self.buy().await?,
                };
                self.has_number(&number)?;
                self.make_agent(&number).await?
            }
        };
        let name = one_line(agent.name.as_deref().unwrap_or("unnamed"), 80);
        step(self.style, "Agent", &format!("{name} ({})", agent.id))?;
        self.call(&agent).await
    }

    fn has_number(&self, number: &PhoneNumber) -> anyhow::Result<()> {
        let shown = number.e164.as_ref().map_or("one without digits", E164::as_str);
        step(self.style, "Number", shown)
    }

    /// A number of one's own, after a yes to its price.
    async fn buy(&mut self) -> anyhow::Result<PhoneNumber> {
        print("The account owns no number to call from yet.\n")?;
        let offers = self.offers().await?;
        for (place, offer) in offers.iter().enumerate() {
            print(format!("  {}  {}\n", place + 1, offered(offer)))?;
        }
        let question = format!("Which one? (1 to {}, Enter for 1) ", offers.len());
        let offer = self.ask.until(&question, |answer| {
            let place: usize = if answer.is_empty() { Ok(1) } else { answer.parse() }
                .map_err(|_| "Type the number of a line.".to_owned())?;
            let chosen = place.checked_sub(1).and_then(|place| offers.get(place));
            chosen.cloned().ok_or_else(|| "There is no such line.".to_owned())
        });
        let offer = offer.await?;
        let price = offer.purchase_price();
        let asked = DialRequest {
            order: Order::Number { number: offer.phone_number.clone(), price },
            idempotency_key: None,
            allow_repeat: false,
        };
        let question = format!("Buy {}?", offered(&offer));
        let dialed = self.order(asked, |_| question).await?;
        match dialed.result {
            DialResult::Placed(Placed::Number(number)) => Ok(*number),
            DialResult::Repeat { product: Some(Placed::Number(number)), .. } => Ok(*number),
            DialResult::Unknown(why) => bail!(
                "it could not be found out whether the number was bought: {} Run this again: it looks \
                 first",
                one_line(&why, 300)
            ),
            _ => bail!("the number is being bought by another program; run this again in a minute"),
        }
    }

    async fn offers(&mut self) -> anyhow::Result<Vec<AvailableNumber>> {
        for _ in 0..3 {
            let question = "Area code, three digits such as 415 (Enter for any): ";
            let area_code = self.ask.until(question, |answer| {
                let code = answer.len() == 3 && answer.bytes().all(|byte| byte.is_ascii_digit());
                match answer {
                    "" => Ok(None),
                    _ if code => Ok(Some(answer.to_owned())),
                    _ => Err("An area code has three digits.".to_owned()),
                }
            });
            let search = NumberSearch {
                area_code: area_code.await?,
                limit: Some(OFFERS),
                ..NumberSearch::default()
            };
            let mut offers = self.api()?.search_numbers(&search).await?.data;
            offers.truncate(OFFERS as usize);
            if !offers.is_empty() {
                return Ok(offers);
            }
            print("  No number is for sale there; try another.\n")?;
        }
        Err(Stopped::Unanswered("No number was found.").into())
    }

    async fn make_agent(&mut self, number: &PhoneNumber) -> anyhow::Result<Agent> {
        print("There is no agent yet that calls from it.\n")?;
        let or = |answer: String, usual: &str| {
            if answer.is_empty() { usual.to_owned() } else { answer }
        };
        let question = format!("What shall it do on the call? (Enter: {TASK}) ");
        let instructions = or(self.ask.line(&question).await?, TASK);
        let name = or(self.ask.line(&format!("Its name? (Enter: {NAME}) ")).await?, NAME);
        let returns = [("heard_well", ReturnType::Boolean), ("remark", ReturnType::String)];
        let agent = AgentCreate {
            instructions: Some(instructions),
            returns: Some(BTreeMap::from(returns.map(|(name, kind)| (name.to_owned(), kind)))),
            number_ids: Some(vec![number.id.clone()]),
            ..AgentCreate::new(name, AgentType::Outbound)
        };
        let made = self.api()?.create_agent(&agent).await;
        made.context("the agent may be there all the same; run this again: it looks first")
    }

    /// Rings the person's own telephone, after a yes to number and price.
    async fn call(&mut self, agent: &Agent) -> anyhow::Result<()> {
        let question = match self.account.environment() {
            Environment::Live => "Your own telephone number, such as +14155550100: ",
            Environment::Sandbox => "The number to call, simulated, such as +13105550100: ",
        };
        let to = self.ask.until(question, |answer| {
            let digits: String =
                answer.chars().filter(|c| !matches!(c, ' ' | '-' | '(' | ')')).collect();
            E164::parse(&digits).map_err(|error| format!("This is {error}."))
        });
        let to = to.await?;
        let asked = DialRequest {
            order: Order::Call(Box::new(CallCreate::new(agent.id.clone(), to.clone()))),
            idempotency_key: None,
            allow_repeat: false,
        };
        let simulated = self.account.environment() == Environment::Sandbox;
        let question = |judgment: &PolicyCheck| {
            let times = match judgment.local_times.as_slice() {
                [] => "unknown".to_owned(),
                times => times.join(" or "),
            };
            let kind = if simulated { "Simulate a call to" } else { "Call" };
            format!(
                "{kind} {} now? Local time there: {times}. It costs $0.05 a connected minute, at most \
                 {CALL_HOLD}.",
                to.as_str()
            )
        };
        let dialed = self.order(asked, question).await?;
        let id = match dialed.result {
            DialResult::Placed(product) => CallId::new(product.id()),
            DialResult::Repeat { id, .. } => {
                print(
                    "This number was called like this minutes ago. Here is that call; nothing rings now.\n",
                )?;
                CallId::new(id)
            }
            DialResult::Unknown(why) => bail!(
                "it could not be found out whether the call was placed: {} It may be ringing. Run this \
                 again: it looks for the call before anything rings",
                one_line(&why, 300)
            ),
            DialResult::InFlight => bail!("the same call is being placed by another program"),
        };
        self.follow(&id).await
    }

    /// Takes an order through the rules, the person and the ledger.
    async fn order(
        &mut self,
        asked: DialRequest,
        question: impl FnOnce(&PolicyCheck) -> String,
    ) -> anyhow::Result<Dialed> {
        let dialer: Arc<Dialer> = Arc::clone(self.account.dialer()?);
        // What was done is not judged again, and nobody need be asked about it.
        if let Some(dialed) = dialer.find_earlier(&asked).await? {
            return Ok(dialed);
        }
        let judgment = dialer.check_policy(&asked).await?;
        let rules = dialer.rules();
        let situation = ConfirmContext {
            kind: asked.kind(),
            known_destination: judgment.known_destination,
            client_can_ask: true,
            require_human: rules.require_human,
        };
        // Here the person is asked in any case; the reason is told where there is one.
        let reason = match confirmation_required(rules.confirm, &judgment.decision, situation) {
            Confirmation::Refuse(refusal) => bail!("{refusal}"),
            Confirmation::Ask(reason) => format!(" You are asked because {reason}."),
            Confirmation::Nothing => String::new(),
        };
        self.ask.yes(&format!("{}{reason}", question(&judgment))).await?;
        let rule = judgment.decision.rule.to_string();
        Ok(dialer.dial(asked, rule, ConfirmedBy::Terminal).await?)
    }

    /// Shows the call while it goes on, and what became of it.
    async fn follow(&self, id: &CallId) -> anyhow::Result<()> {
        print(format!("Following the call {id}. Ctrl-C stops that, not the call.\n"))?;
        let mut follower =
            self.account.watchers()?.follow(id, WatchOptions { transcript: true })?;
        let shown = tokio::time::timeout(LONGEST_CALL, self.show(&mut follower)).await;
        let snapshot = match shown {
            Ok(snapshot) => snapshot?,
            Err(_) => follower.snapshot(),
        };
        match (&snapshot.call, snapshot.state, &snapshot.trouble) {
            (Some(call), WatchStatus::Finished, _) => {
                self.account.dialer()?.record_call_end(call).await;
                self.outcome(call)
            }
            (_, _, Some(trouble)) => Err(anyhow::Error::new(trouble.as_ref().clone())
                .context("the call could not be followed to its end; it goes on all the same")),
            _ => bail!("the call {id} did not end in time; callingbox-mcp receipts shows it"),
        }
    }

    async fn show(&self, follower: &mut Follower) -> anyhow::Result<Arc<Snapshot>> {
        let (mut status, mut lines) = (None, 0);
        let live = Live::new(self.style);
        let _waiting = live.wait("on the call");
        loop {
            let snapshot = follower.snapshot();
            if let Some(call) = &snapshot.call
                && status.as_ref() != Some(&call.status)
            {
                live.print(format!(
                    "  {}\n",
                    self.style.paint("2", &one_line(call.status.as_str(), 40))
                ))?;
                status = Some(call.status.clone());
            }
            for segment in snapshot.segments.iter().skip(lines) {
                let role = one_line(segment.role.as_deref().unwrap_or("unknown"), 40);
                let words = one_line(&segment.text, 1_000);
                live.print(format!("  {} {words}\n", self.style.paint("33", &format!("{role}:"))))?;
            }
            lines = lines.max(snapshot.segments.len());
            if snapshot.state.is_over() || follower.changed().await.is_none() {
                return Ok(snapshot);
            }
        }
    }

    fn outcome(&self, call: &Call) -> anyhow::Result<()> {
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
        let Next { install, doctor } = &self.next;
        text.push_str(&match outcome {
            CallOutcome::Completed => {
                format!("\nAll is set up. Next: {install} shows the AI clients found here.\n")
            }
            _ => format!(
                "\nAll is set up, though nobody was spoken with. {doctor} looks for what may be wrong.\n"
            ),
        });
        print(text)
    }
}

/// Number, place and price.
fn offered(offer: &AvailableNumber) -> String {
    let place = [offer.locality.as_deref(), offer.state.as_deref()];
    let place: Vec<String> = place.into_iter().flatten().map(|part| one_line(part, 40)).collect();
    let price = match (offer.purchase_price(), offer.monthly_cost_cents) {
        (Some(now), Some(monthly)) => {
            format!("{now} now and {} each month after", MilliCents::from_cents(monthly))
        }
        _ => "at a price that CallingBox does not say".to_owned(),
    };
    format!("{} {} for {price}", offer.phone_number.as_str(), place.join(", "))
}
