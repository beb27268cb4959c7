//! Many orders at once through two dialers an account, which share a ledger as two processes do:
//! alone, with a twin at the same instant, again, and given up half-way.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use callingbox::E164;
use callingbox::MilliCents;
use callingbox::{AgentId, ApiClient, ApiKey, BaseUrl, CallCreate, ClientConfig, Timeouts};
use callingbox_mcp::dialing::Environment;
use callingbox_mcp::dialing::caller::CallerName;
use callingbox_mcp::dialing::confirm::ConfirmMode;
use callingbox_mcp::dialing::dialer::Dialer;
use callingbox_mcp::dialing::ledger::{
    ConfirmedBy, DispatchState, KeyRef, LedgerError, LedgerLocation, MAX_PAGE, RecordFilter,
    open_ledger,
};
use callingbox_mcp::dialing::order::{DialRequest, Order};
use callingbox_mcp::dialing::outcome::{DialError, DialResult};
use callingbox_mcp::dialing::policy::Policy;
use callingbox_mcp::dialing::rules::{CardIsHuman, DialingRules};
use futures::StreamExt;
use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::json;

use crate::chaos::POLICY;
use crate::chaos::evidence::{Account, ChaosControl, Report, Tally, nothing_twice};
use crate::chaos::proxy::Proxy;
use crate::chaos::random::Random;

const ACCOUNTS: usize = 8;
const CALLS: usize = 80;
const PURCHASES: usize = 4;
/// How often a request is tried while the ledger is locked. SQLite waits 5 s for the lock each time.
const MAX_LOCKED: usize = 10;
/// The orders begin within this time.
const SPREAD: u64 = 15_000;

pub(crate) struct DialerRun {
    accounts: Vec<AccountOrders>,
}

/// One account.
struct AccountOrders {
    account: Account,
    dialers: [Arc<Dialer>; 2],
    /// Without the short time-outs, which a busy machine exceeds without any fault.
    settling_dialer: Arc<Dialer>,
    orders: Vec<Task>,
}

/// One distinct request and what it was answered.
struct Task {
    name: String,
    asked: DialRequest,
    reports: Vec<Report>,
}

impl Task {
    fn wants_settling(&self, round: u32, rang: bool) -> bool {
        match round {
            // What was reported as not placed must not ring any more, unless it is asked for.
            0 => !self.reports.iter().all(|report| matches!(report, Report::NotPlaced(_))),
            _ => {
                let open = [Some(&Report::Unknown), Some(&Report::InFlight)];
                rang && open.contains(&self.reports.last())
            }
        }
    }
}

fn place(dir: &Path) -> LedgerLocation {
    LedgerLocation::File(dir.join("dialer_run.sqlite3"))
}

fn dialer(account: &Account, proxy: &Proxy, dir: &Path, timeouts: Timeouts) -> Arc<Dialer> {
    let base_url = BaseUrl::parse(&proxy.url(), false).unwrap();
    let key = ApiKey::new(account.key.clone()).unwrap();
    let key_ref = KeyRef::new(key.clone(), &base_url);
    let mut config = ClientConfig::new(base_url, key);
    config.timeouts = timeouts;
    let rules = DialingRules {
        policy: Policy::from_toml(POLICY).unwrap(),
        confirm: ConfirmMode::Never,
        require_human: false,
        ask_do_not_call: true,
        card_is_human: CardIsHuman::Never,
        repeat_window: SignedDuration::from_mins(10),
        thinking_time: Duration::from_secs(1),
        webhook_hosts: Default::default(),
        disclosure: Default::default(),
        keep_people: jiff::SignedDuration::from_hours(720),
    };
    let api = ApiClient::new(config);
    Arc::new(Dialer::new(api, key_ref, Environment::Sandbox, place(dir), rules))
}

fn tasks(account: &Account) -> Vec<Task> {
    let calls = (0..CALLS).map(|number| {
        let name = format!("call {number}");
        let to = format!("+1202555{:04}", 120 + number);
        let call = CallCreate {
            agent_id: AgentId::new(account.agent.clone()),
            to: E164::parse(&to).unwrap(),
            from_number: None,
            instructions: Some(format!("Do {name}.")),
            context: None,
            webhook_url: None,
            metadata: json!({"request": name}).as_object().cloned(),
        };
        (name, Order::Call(Box::new(call)))
    });
    let purchases = account.numbers.iter().take(PURCHASES).map(|number| {
        let order =
            Order::Number { number: E164::parse(number).unwrap(), price: Some(MilliCents::DOLLAR) };
        (number.clone(), order)
    });
    calls
        .chain(purchases)
        .map(|(name, order)| Task {
            name,
            asked: DialRequest {
                order,
                caller: CallerName::local(),
                idempotency_key: None,
                allow_repeat: false,
                attempt: None,
                disclosing_instructions: None,
                metadata_source: Default::default(),
            },
            reports: Vec::new(),
        })
        .collect()
}

/// Dials as the tools do: it looks for an earlier request first. On a loaded machine the other process can hold the
/// ledger's lock for too long; nothing was written then, and the error asks to try again.
async fn ask(dialer: &Arc<Dialer>, asked: &DialRequest) -> Report {
    for _ in 0..MAX_LOCKED {
        let dialed = match dialer.find_earlier(asked).await {
            Ok(Some(dialed)) => Ok(dialed),
            Ok(None) => dialer.dial(asked.clone(), "chaos".into(), ConfirmedBy::NotRequired).await,
            Err(error) => Err(error),
        };
        return match dialed {
            Ok(dialed) => match dialed.result {
                DialResult::Placed(product) => Report::Done(product.id().to_owned()),
                DialResult::Repeat { id, .. } => Report::Repeat(id),
                DialResult::Unknown(_) => Report::Unknown,
                DialResult::InFlight => Report::InFlight,
            },
            Err(DialError::NotPlaced(reason)) => Report::NotPlaced(format!("{reason:?}")),
            Err(DialError::Ledger(LedgerError::Locked)) => continue,
            Err(error) => panic!("{error}"),
        };
    }
    panic!("the ledger stayed locked");
}

impl DialerRun {
    pub(crate) async fn prepare(control: &ChaosControl, proxy: &Proxy, dir: &Path) -> Self {
        let mut accounts = Vec::new();
        for number in 0..ACCOUNTS {
            let account = control.open_account(&format!("storm_{number}")).await;
            let short = Timeouts {
                request: Duration::from_secs(1),
                total: Duration::from_millis(1_500),
                ..Timeouts::default()
            };
            let dialers = [short, short].map(|timeouts| dialer(&account, proxy, dir, timeouts));
            let settling_dialer = dialer(&account, proxy, dir, Timeouts::default());
            let orders = tasks(&account);
            accounts.push(AccountOrders { orders, dialers, settling_dialer, account });
        }
        Self { accounts }
    }

    pub(crate) async fn send_orders(&mut self, random: &Random, tally: &Tally) {
        let orders = self.accounts.iter_mut().flat_map(|desk| {
            let dialers = &desk.dialers;
            desk.orders.iter_mut().map(move |task| async move {
                tokio::time::sleep(Duration::from_millis(random.below(SPREAD))).await;
                let [one, other] = dialers;
                let reports = match random.below(10) {
                    // At the same instant in two processes.
                    0 | 1 => {
                        let both = tokio::join!(ask(one, &task.asked), ask(other, &task.asked));
                        vec![both.0, both.1]
                    }
                    // Twice in one.
                    2 => {
                        let both = tokio::join!(ask(one, &task.asked), ask(one, &task.asked));
                        vec![both.0, both.1]
                    }
                    // The caller goes away.
                    3 => {
                        let patience = Duration::from_millis(random.below(1_500));
                        let asked = tokio::time::timeout(patience, ask(one, &task.asked)).await;
                        vec![asked.unwrap_or(Report::Gone)]
                    }
                    _ => vec![ask(one, &task.asked).await],
                };
                task.reports.extend(reports);
                if random.percent(30) {
                    tokio::time::sleep(Duration::from_millis(random.below(2_000))).await;
                    task.reports.push(ask(other, &task.asked).await);
                }
                task.reports.iter().for_each(|report| tally.add(report));
            })
        });
        join_all(orders).await;
    }

    /// Asks for everything once more; and again for what rang and is not known yet, because a busy
    /// machine breaks searches of its own accord.
    pub(crate) async fn settle(&mut self, control: &ChaosControl, tally: &Tally) {
        for round in 0..4 {
            let mut orders = Vec::new();
            for AccountOrders { account, settling_dialer, orders: tasks, .. } in &mut self.accounts
            {
                let rung = control.rung(account).await;
                for task in tasks {
                    let rang = rung.iter().any(|call| call.request == task.name);
                    if task.wants_settling(round, rang) {
                        orders.push((&*settling_dialer, task));
                    }
                }
            }
            futures::stream::iter(orders)
                .for_each_concurrent(150, |(dialer, task)| async move {
                    let report = ask(dialer, &task.asked).await;
                    tally.add(&report);
                    task.reports.push(report);
                })
                .await;
        }
    }

    /// Compares the reports and the ledger with what was really done. Gives how much that was.
    pub(crate) async fn check(&self, control: &ChaosControl, dir: &Path) -> usize {
        let ledger = open_ledger(&place(dir), Environment::Sandbox).await.unwrap();
        let mut done = 0;
        for AccountOrders { account, dialers, orders, .. } in &self.accounts {
            let account_id = dialers[0].account().await.unwrap().id().clone();
            let filter = RecordFilter {
                account_id: Some(account_id),
                limit: MAX_PAGE,
                ..RecordFilter::default()
            };
            let records = ledger.list_records(filter).await.unwrap();
            let rung = control.rung(account).await;
            nothing_twice(&rung);
            for call in &rung {
                let record = records.iter().find(|r| r.dispatch_id.to_string() == call.dispatch);
                let record = record.unwrap_or_else(|| panic!("{call:?} is not in the ledger"));
                assert_eq!(
                    record.state,
                    DispatchState::Placed { id: call.call.clone() },
                    "{call:?}"
                );
            }
            let owned = control.owned(account).await;
            for task in orders {
                let call = rung.iter().find(|call| call.request == task.name);
                let number = owned.iter().find(|(number, _)| *number == task.name);
                let id = call.map(|call| &call.call).or(number.map(|(_, id)| id));
                done += usize::from(id.is_some());
                check_policy(&task.name, id, &task.reports);
            }
            // The number that the account began with is the one more.
            let bought = orders.iter().filter(|t| owned.iter().any(|(n, _)| *n == t.name)).count();
            assert_eq!(owned.len(), bought + 1);
        }
        done
    }
}

/// Compares the reports of a request with its real outcome.
pub(crate) fn check_policy(name: &str, id: Option<&String>, reports: &[Report]) {
    for report in reports {
        if let Report::Done(reported) | Report::Repeat(reported) = report {
            assert_eq!(Some(reported), id, "{name}: {reports:?}");
        }
    }
    let done = reports.iter().filter(|report| matches!(report, Report::Done(_))).count();
    assert!(done <= 1, "{name}: {reports:?}");
    let last = reports.last().unwrap();
    match id {
        // It rang: at the end it is known, and it was never only said that it did not.
        Some(id) => assert!(
            *last == Report::Done(id.clone()) || *last == Report::Repeat(id.clone()),
            "{name} rang as {id}: {reports:?}"
        ),
        None => assert!(
            matches!(last, Report::NotPlaced(_) | Report::Unknown),
            "{name} did not ring: {reports:?}"
        ),
    }
}
