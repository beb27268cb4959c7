//! A collector that receives `ExportTraceServiceRequest`s over HTTP. Its decoder of protobuf (opentelemetry-proto,
//! trace/v1/trace.proto) is independent of the one that sends them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;

/// A span that arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) state: String,
    /// 2 is server, 3 is client.
    pub(crate) kind: u64,
    /// Nanoseconds.
    pub(crate) took: u64,
    pub(crate) attributes: BTreeMap<String, String>,
    /// 2 is error.
    pub(crate) status: u64,
}

#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Vec<u8>>>);

impl Collector {
    /// Starts a collector and returns it with its address.
    pub(crate) async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let take = async |State(collector): State<Self>, body: Bytes| {
            collector.0.lock().unwrap().extend_from_slice(&body);
        };
        let routes = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (collector, url)
    }

    /// All bytes that arrived. Concatenated protobuf messages are one message.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    /// The spans, sorted by name, and the attributes of the resource.
    pub(crate) fn read(&self) -> (Vec<Span>, BTreeMap<String, String>) {
        let (mut spans, mut resource) = (Vec::new(), BTreeMap::new());
        for (_, resource_spans) in decode_messages(&self.bytes(), 1) {
            for (field, message) in decode_fields(&resource_spans) {
                match (field, message) {
                    (1, Value::Bytes(message)) => resource = decode_attributes(&message, 1),
                    (2, Value::Bytes(scope_spans)) => {
                        spans.extend(
                            decode_messages(&scope_spans, 2)
                                .map(|(_, message)| decode_span(&message)),
                        );
                    }
                    _ => {}
                }
            }
        }
        spans.sort_by(|a: &Span, b| a.name.cmp(&b.name));
        (spans, resource)
    }
}

fn decode_span(message: &[u8]) -> Span {
    let mut span = Span { attributes: decode_attributes(message, 9), ..Span::default() };
    let mut began = 0;
    for field in decode_fields(message) {
        match field {
            (1, Value::Bytes(id)) => span.trace = hex(&id),
            (2, Value::Bytes(id)) => span.id = hex(&id),
            (3, Value::Bytes(state)) => span.state = text(&state),
            (4, Value::Bytes(id)) => span.parent = hex(&id),
            (5, Value::Bytes(name)) => span.name = text(&name),
            (6, Value::Number(kind)) => span.kind = kind,
            (7, Value::Number(at)) => began = at,
            (8, Value::Number(at)) => span.took = at - began,
            (15, Value::Bytes(status)) => {
                let code = decode_fields(&status).into_iter().find(|(field, _)| *field == 3);
                span.status = match code {
                    Some((_, Value::Number(code))) => code,
                    _ => 0,
                };
            }
            _ => {}
        }
    }
    span
}

/// The key-value pairs in `field`.
fn decode_attributes(message: &[u8], field: u64) -> BTreeMap<String, String> {
    let pair = |(_, message): (u64, Vec<u8>)| {
        let mut pair = (String::new(), String::new());
        for (field, value) in decode_fields(&message) {
            match (field, value) {
                (1, Value::Bytes(key)) => pair.0 = text(&key),
                (2, Value::Bytes(value)) => {
                    pair.1 = match decode_fields(&value).into_iter().next().unwrap() {
                        (1, Value::Bytes(value)) => text(&value),
                        (3, Value::Number(value)) => value.to_string(),
                        other => panic!("{other:?}"),
                    };
                }
                _ => {}
            }
        }
        pair
    };
    decode_messages(message, field).map(pair).collect()
}

#[derive(Debug)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

fn decode_messages(message: &[u8], wanted: u64) -> impl Iterator<Item = (u64, Vec<u8>)> {
    decode_fields(message).into_iter().filter_map(move |(field, value)| match value {
        Value::Bytes(bytes) if field == wanted => Some((field, bytes)),
        _ => None,
    })
}

/// The fields of a message (protobuf.dev, "Encoding").
fn decode_fields(mut message: &[u8]) -> Vec<(u64, Value)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut number = 0;
        for at in 0.. {
            let (byte, rest) = message.split_first().unwrap();
            *message = rest;
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let mut take = |length: usize| {
            let (taken, rest) = message.split_at(length);
            message = rest;
            taken.to_vec()
        };
        let value = match tag & 7 {
            1 => Value::Number(u64::from_le_bytes(take(8).try_into().unwrap())),
            5 => Value::Number(u32::from_le_bytes(take(4).try_into().unwrap()).into()),
            0 => Value::Number(varint(&mut message)),
            2 => {
                let length = varint(&mut message).try_into().unwrap();
                let (taken, rest) = message.split_at(length);
                message = rest;
                Value::Bytes(taken.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        found.push((tag >> 3, value));
    }
    found
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
