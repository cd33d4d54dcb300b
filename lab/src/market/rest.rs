//! A client of the public API: JSON over HTTP, one key per write, the same key on every retry.

use super::config::HTTP;
use super::offer::Refused;
use crate::clock;
use crate::error::{Error, Result};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
/// A broker that is being restarted is asked again for this long.
const RETRY_FOR_NS: u64 = 20 * clock::SECOND;

/// What the API answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn text(&self, key: &str) -> String {
        self.body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    pub fn code(&self) -> String {
        self.text("code")
    }

    pub fn message(&self) -> String {
        self.text("message")
    }

    /// The body, when it is a success.
    pub fn success(self, doing: &str) -> Result<Value> {
        if self.is_success() {
            return Ok(self.body);
        }
        // The product decided against it; any other status says that it was not asked properly.
        if matches!(self.status, 409 | 422) {
            let refused = Refused::read(&self, clock::wall_ns() / clock::MS);
            return Err(Error::Refused { doing: doing.into(), refused: Box::new(refused) });
        }
        Err(Error::Broker {
            doing: doing.into(),
            status: self.status,
            code: self.code(),
            message: self.message(),
        })
    }
}

/// One customer's, or the NOC's, client.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    token: String,
    keys: Arc<AtomicU64>,
}

impl Client {
    pub fn new(token: &str) -> Client {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            // The broker may have been killed since: a pooled connection would be a dead one.
            .max_idle_connections(0)
            .build();
        Client {
            agent: config.new_agent(),
            token: token.to_owned(),
            keys: Arc::new(AtomicU64::new(clock::wall_ns())),
        }
    }

    /// Whether `/readyz` says yes; a broker that does not listen yet is not ready.
    pub fn ready(&self) -> Result<bool> {
        Ok(self.once("GET", "/readyz", None, "").is_ok_and(|answer| answer.status == 200))
    }

    /// Reads, and asks again while the broker is away.
    pub fn read(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, None, "")?.success(&format!("GET {path}"))
    }

    /// Writes, with a new key; anything but a success is an error.
    pub fn write(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        self.try_write(method, path, body)?.success(&format!("{method} {path}"))
    }

    /// Writes, with a new key, and gives the answer whatever it is.
    pub fn try_write(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let key = format!("lab-{}", self.keys.fetch_add(1, Ordering::Relaxed));
        self.ask(method, path, Some(body), &key)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>, key: &str) -> Result<Answer> {
        let until = clock::now_ns() + RETRY_FOR_NS;
        loop {
            let answer = self.once(method, path, body, key);
            let again = match &answer {
                Ok(answer) => answer.status == 503,
                Err(_) => true,
            };
            if !again || clock::now_ns() > until {
                return answer.map_err(|what| Error::Rest { doing: format!("{method} {path}"), what });
            }
            clock::sleep_until(clock::now_ns() + 100 * clock::MS);
        }
    }

    fn once(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        key: &str,
    ) -> std::result::Result<Answer, String> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{HTTP}{path}"))
            .header("authorization", format!("Bearer {}", self.token));
        if !key.is_empty() {
            request = request.header("idempotency-key", key).header("content-type", "application/json");
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let built = request.body(text).map_err(|e| e.to_string())?;
        let mut response = self.agent.run(built).map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|e| e.to_string())?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, body })
    }
}
