//! A scripted account: calls that live by the virtual clock, and a log of what was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::watch::Source;
use callingbox::{
    ApiOperation, Call, CallId, Cursor, Error, ErrorKind, Page, PageRequest, Transcript,
};

/// What was asked of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Record,
    Transcript,
    List,
}

/// The stages of a call, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) begins: f64,
    pub(super) dialing: f64,
    pub(super) talking: f64,
    pub(super) extracting: f64,
}

impl Life {
    pub(super) fn three_minutes() -> Self {
        Self { begins: 0.0, dialing: 10.0, talking: 180.0, extracting: 5.0 }
    }

    /// When its result is there, in seconds.
    pub(super) fn ready(&self) -> f64 {
        self.begins + self.dialing + self.talking + self.extracting
    }
}

type Fault = Box<dyn Fn(Asked, f64) -> Option<ErrorKind> + Send + Sync>;

pub(super) struct Telephone {
    pub(super) start: Instant,
    wall: jiff::Timestamp,
    latency: Mutex<Duration>,
    calls: Mutex<BTreeMap<CallId, Life>>,
    log: Mutex<Vec<(Instant, Asked)>>,
    fault: Mutex<Option<Fault>>,
}

impl Telephone {
    pub(super) fn new(latency_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            wall: jiff::Timestamp::now(),
            latency: Mutex::new(Duration::from_millis(latency_ms)),
            calls: Mutex::default(),
            log: Mutex::default(),
            fault: Mutex::default(),
        })
    }

    pub(super) fn add(&self, id: &str, life: Life) -> CallId {
        let id = CallId::new(id);
        self.calls.lock().unwrap().insert(id.clone(), life);
        id
    }

    pub(super) fn fail(
        &self,
        fault: impl Fn(Asked, f64) -> Option<ErrorKind> + Send + Sync + 'static,
    ) {
        *self.fault.lock().unwrap() = Some(Box::new(fault));
    }

    /// What is asked from now on is answered after this time.
    pub(super) fn slow_down(&self, latency: Duration) {
        *self.latency.lock().unwrap() = latency;
    }

    pub(super) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    pub(super) fn count(&self, what: Asked) -> usize {
        self.log.lock().unwrap().iter().filter(|(_, asked)| *asked == what).count()
    }

    pub(super) fn total(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    /// When everything was asked, in seconds.
    pub(super) fn times(&self) -> Vec<f64> {
        let log = self.log.lock().unwrap();
        log.iter().map(|(at, _)| at.duration_since(self.start).as_secs_f64()).collect()
    }

    /// The most requests in any window of one second.
    pub(super) fn most_in_a_second(&self) -> usize {
        let log = self.log.lock().unwrap();
        let within = |from: usize| {
            let end = log[from].0 + Duration::from_secs(1);
            log[from..].iter().take_while(|(at, _)| *at < end).count()
        };
        (0..log.len()).map(within).max().unwrap_or(0)
    }

    fn at(&self, seconds: f64) -> String {
        (self.wall + jiff::SignedDuration::from_secs_f64(seconds)).to_string()
    }

    /// The record as it stands at a moment.
    pub(super) fn record(&self, id: &CallId, now: f64) -> Option<Call> {
        let life = *self.calls.lock().unwrap().get(id)?;
        let answered = life.begins + life.dialing;
        let ended = answered + life.talking;
        let mut record = json!({
            "id": id, "created_at": self.at(life.begins), "result_status": "pending",
            "returns": {"date": {"type": "string"}}, "result": null,
        });
        record["status"] = if now >= ended && life.talking == 0.0 {
            "no_answer".into()
        } else if now >= ended {
            "completed".into()
        } else if now >= answered {
            "in_progress".into()
        } else if now >= life.begins + 1.0 {
            "ringing".into()
        } else {
            "queued".into()
        };
        if now >= ended {
            record["ended_at"] = self.at(ended).into();
        }
        if now >= ended + life.extracting && life.talking > 0.0 {
            record["result_status"] = "completed".into();
            record["result"] = json!({"date": "2026-04-16"});
        }
        Some(serde_json::from_value(record).unwrap())
    }

    /// One line for each four seconds of talk.
    pub(super) fn transcript(&self, id: &CallId, now: f64) -> Option<Transcript> {
        let life = *self.calls.lock().unwrap().get(id)?;
        let talked = (now - life.begins - life.dialing).clamp(0.0, life.talking);
        let lines = 0..(talked / 4.0) as u64;
        let segments: Vec<_> = lines
            .map(|n| json!({"sequence_no": n, "role": "user", "text": format!("line {n}")}))
            .collect();
        Some(serde_json::from_value(json!({"call_id": id, "segments": segments})).unwrap())
    }

    fn page(&self, request: &PageRequest, now: f64) -> Page<Call> {
        let calls = self.calls.lock().unwrap().clone();
        let mut newest: Vec<_> = calls.into_iter().filter(|(_, life)| life.begins <= now).collect();
        newest.sort_by(|a, b| b.1.begins.total_cmp(&a.1.begins).then(b.0.cmp(&a.0)));
        let skip = match &request.cursor {
            Some(Cursor::After(after)) => {
                newest.iter().position(|(id, _)| id.as_str() == after).unwrap() + 1
            }
            Some(Cursor::Before(_)) => panic!("the watchers only go forward"),
            None => 0,
        };
        let limit = usize::from(request.limit.unwrap());
        let ids = newest.iter().skip(skip).take(limit);
        let data = ids.map(|(id, _)| self.record(id, now).unwrap()).collect();
        Page { data, has_more: newest.len() > skip + limit, said: true, skipped: 0 }
    }

    /// Notes the question and answers after half the latency there and half back.
    async fn answer<T>(
        &self,
        asked: Asked,
        answer: impl FnOnce(f64) -> Option<T>,
    ) -> Result<T, Error> {
        self.log.lock().unwrap().push((Instant::now(), asked));
        let latency = *self.latency.lock().unwrap();
        sleep(latency / 2).await;
        let now = self.seconds();
        let fault = self.fault.lock().unwrap().as_ref().and_then(|fault| fault(asked, now));
        let answer = answer(now);
        sleep(latency / 2).await;
        let request = ApiOperation::GetCall;
        match (fault, answer) {
            (Some(fault), _) => Err(Error::new(request, fault)),
            (None, Some(answer)) => Ok(answer),
            (None, None) => {
                Err(Error::new(request, ErrorKind::NotFound { message: "call not found".into() }))
            }
        }
    }
}

impl Source for Telephone {
    fn get_call<'a>(&'a self, id: &'a CallId) -> BoxFuture<'a, Result<Call, Error>> {
        Box::pin(self.answer(Asked::Record, move |now| self.record(id, now)))
    }

    fn get_transcript<'a>(&'a self, id: &'a CallId) -> BoxFuture<'a, Result<Transcript, Error>> {
        Box::pin(self.answer(Asked::Transcript, move |now| self.transcript(id, now)))
    }

    fn list_calls<'a>(&'a self, page: &'a PageRequest) -> BoxFuture<'a, Result<Page<Call>, Error>> {
        Box::pin(self.answer(Asked::List, move |now| Some(self.page(page, now))))
    }
}
