//! The direct HTTP client of `benches/compare.py`: the crate this server asks the API with, alone, in a
//! process of its own and on one thread. No server can be faster than the requests it makes.
//!
//! `direct ADDRESS CALL KEY` reads the call as often as each line of standard input says,
//! `COUNT AT_ONCE SECONDS`, and answers with a line of JSON: how long it took in all, and how long each
//! request took, in seconds.

use std::cell::Cell;
use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

use reqwest::Client;

type Fault = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, call, key] = arguments.as_slice() else {
        return Err("usage: direct ADDRESS CALL KEY".into());
    };
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Err("a provider of cryptography is installed already".into());
    }
    let client = Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let url = format!("http://{address}/v1/calls/{call}");
    let read = async || -> Result<f64, Fault> {
        let begun = Instant::now();
        let answer = client.get(&url).bearer_auth(key).send().await?.error_for_status()?;
        answer.bytes().await?;
        Ok(begun.elapsed().as_secs_f64())
    };
    for line in io::stdin().lock().lines() {
        let line = line?;
        let numbers: Vec<&str> = line.split(' ').collect();
        let [count, at_once, seconds] = numbers.as_slice() else {
            return Err("a line is: COUNT AT_ONCE SECONDS".into());
        };
        let (left, at_once): (Cell<u64>, usize) = (Cell::new(count.parse()?), at_once.parse()?);
        let begun = Instant::now();
        let end = begun + Duration::from_secs_f64(seconds.parse()?);
        let worker = async || -> Result<Vec<f64>, Fault> {
            let mut times = Vec::new();
            while left.get() > 0 && Instant::now() < end {
                left.set(left.get() - 1);
                times.push(read().await?);
            }
            Ok(times)
        };
        let times = futures::future::try_join_all((0..at_once).map(|_| worker())).await?.concat();
        let all = serde_json::json!({"seconds": begun.elapsed().as_secs_f64(), "times": times});
        writeln!(io::stdout(), "{all}")?;
    }
    Ok(())
}
