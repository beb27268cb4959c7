//! A scripted account: calls that advance with the paused clock, and a log of the requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::watch::CallSource;
use callingbox::{
    ApiOperation, Call, CallId, Error, ErrorKind, Page, PageCursor, PageRequest, Transcript,
};

/// What a request reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestKind {
    Record,
    Transcript,
    List,
}

/// How long each stage of a call lasts, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallStages {
    pub(super) begins: f64,
    pub(super) dialing: f64,
    pub(super) talking: f64,
    pub(super) extracting: f64,
}

impl CallStages {
    pub(super) fn three_minutes() -> Self {
        Self { begins: 0.0, dialing: 10.0, talking: 180.0, extracting: 5.0 }
    }

    /// When the result is available, in seconds.
    pub(super) fn result_at(&self) -> f64 {
        self.begins + self.dialing + self.talking + self.extracting
    }
}

type Fault = Box<dyn Fn(RequestKind, f64) -> Option<ErrorKind> + Send + Sync>;

pub(super) struct FakeApi {
    pub(super) start: Instant,
    started_at: jiff::Timestamp,
    latency: Mutex<Duration>,
    calls: Mutex<BTreeMap<CallId, CallStages>>,
    log: Mutex<Vec<(Instant, RequestKind)>>,
    fault: Mutex<Option<Fault>>,
}

impl FakeApi {
    pub(super) fn new(latency_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            started_at: jiff::Timestamp::now(),
            latency: Mutex::new(Duration::from_millis(latency_ms)),
            calls: Mutex::default(),
            log: Mutex::default(),
            fault: Mutex::default(),
        })
    }

    pub(super) fn add_call(&self, id: &str, stages: CallStages) -> CallId {
        let id = CallId::new(id);
        self.calls.lock().unwrap().insert(id.clone(), stages);
        id
    }

    pub(super) fn set_fault(
        &self,
        fault: impl Fn(RequestKind, f64) -> Option<ErrorKind> + Send + Sync + 'static,
    ) {
        *self.fault.lock().unwrap() = Some(Box::new(fault));
    }

    /// Changes how long later requests take.
    pub(super) fn set_latency(&self, latency: Duration) {
        *self.latency.lock().unwrap() = latency;
    }

    pub(super) fn elapsed_seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    pub(super) fn count_requests(&self, what: RequestKind) -> usize {
        self.log.lock().unwrap().iter().filter(|(_, kind)| *kind == what).count()
    }

    pub(super) fn total_requests(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    /// When each request was made, in seconds.
    pub(super) fn request_times(&self) -> Vec<f64> {
        let log = self.log.lock().unwrap();
        log.iter().map(|(at, _)| at.duration_since(self.start).as_secs_f64()).collect()
    }

    /// The most requests in any window of one second.
    pub(super) fn max_requests_per_second(&self) -> usize {
        let log = self.log.lock().unwrap();
        let within = |from: usize| {
            let end = log[from].0 + Duration::from_secs(1);
            log[from..].iter().take_while(|(at, _)| *at < end).count()
        };
        (0..log.len()).map(within).max().unwrap_or(0)
    }

    fn timestamp_at(&self, seconds: f64) -> String {
        (self.started_at + jiff::SignedDuration::from_secs_f64(seconds)).to_string()
    }

    /// The record at a time.
    pub(super) fn record_at(&self, id: &CallId, now: f64) -> Option<Call> {
        let stages = *self.calls.lock().unwrap().get(id)?;
        let answered = stages.begins + stages.dialing;
        let ended = answered + stages.talking;
        let mut record = json!({
            "id": id, "created_at": self.timestamp_at(stages.begins), "result_status": "pending",
            "returns": {"date": {"type": "string"}}, "result": null,
        });
        record["status"] = if now >= ended && stages.talking == 0.0 {
            "no_answer".into()
        } else if now >= ended {
            "completed".into()
        } else if now >= answered {
            "in_progress".into()
        } else if now >= stages.begins + 1.0 {
            "ringing".into()
        } else {
            "queued".into()
        };
        if now >= ended {
            record["ended_at"] = self.timestamp_at(ended).into();
        }
        if now >= ended + stages.extracting && stages.talking > 0.0 {
            record["result_status"] = "completed".into();
            record["result"] = json!({"date": "2026-04-16"});
        }
        Some(serde_json::from_value(record).unwrap())
    }

    /// One line for each four seconds of talk.
    pub(super) fn transcript_at(&self, id: &CallId, now: f64) -> Option<Transcript> {
        let stages = *self.calls.lock().unwrap().get(id)?;
        let talked = (now - stages.begins - stages.dialing).clamp(0.0, stages.talking);
        let lines = 0..(talked / 4.0) as u64;
        let segments: Vec<_> = lines
            .map(|n| json!({"sequence_no": n, "role": "user", "text": format!("line {n}")}))
            .collect();
        Some(serde_json::from_value(json!({"call_id": id, "segments": segments})).unwrap())
    }

    fn page_at(&self, request: &PageRequest, now: f64) -> Page<Call> {
        let calls = self.calls.lock().unwrap().clone();
        let mut newest: Vec<_> =
            calls.into_iter().filter(|(_, stages)| stages.begins <= now).collect();
        newest.sort_by(|a, b| b.1.begins.total_cmp(&a.1.begins).then(b.0.cmp(&a.0)));
        let skip = match &request.cursor {
            Some(PageCursor::After(after)) => {
                newest.iter().position(|(id, _)| id.as_str() == after).unwrap() + 1
            }
            Some(PageCursor::Before(_)) => panic!("the watchers only page forward"),
            None => 0,
        };
        let limit = usize::from(request.limit.unwrap());
        let ids = newest.iter().skip(skip).take(limit);
        let data = ids.map(|(id, _)| self.record_at(id, now).unwrap()).collect();
        Page { data, has_more: newest.len() > skip + limit, has_more_known: true, skipped: 0 }
    }

    /// Logs the request and answers it: half of the latency passes before the account is read, and half after.
    async fn answer<T>(
        &self,
        kind: RequestKind,
        answer: impl FnOnce(f64) -> Option<T>,
    ) -> Result<T, Error> {
        self.log.lock().unwrap().push((Instant::now(), kind));
        let latency = *self.latency.lock().unwrap();
        sleep(latency / 2).await;
        let now = self.elapsed_seconds();
        let fault = self.fault.lock().unwrap().as_ref().and_then(|fault| fault(kind, now));
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

impl CallSource for FakeApi {
    fn get_call<'a>(&'a self, id: &'a CallId) -> BoxFuture<'a, Result<Call, Error>> {
        Box::pin(self.answer(RequestKind::Record, move |now| self.record_at(id, now)))
    }

    fn get_transcript<'a>(&'a self, id: &'a CallId) -> BoxFuture<'a, Result<Transcript, Error>> {
        Box::pin(self.answer(RequestKind::Transcript, move |now| self.transcript_at(id, now)))
    }

    fn list_calls<'a>(&'a self, page: &'a PageRequest) -> BoxFuture<'a, Result<Page<Call>, Error>> {
        Box::pin(self.answer(RequestKind::List, move |now| Some(self.page_at(page, now))))
    }
}
