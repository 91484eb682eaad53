//! A client of the REST interface that shares no code with the product: it runs `curl`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

/// An endpoint and a token to speak to it with.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: String,
    token: String,
}

/// What the server answered.
#[derive(Debug, Clone)]
#[must_use]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as it came.
    pub text: String,
    /// The body as JSON, null if it is none.
    pub body: Value,
}

impl Client {
    /// A client of `endpoint`, such as `https://127.0.0.1:8443`; an empty token sends no `Authorization`.
    #[must_use]
    pub fn new(endpoint: &str, token: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), token: token.trim().to_owned() }
    }

    /// The token that it sends.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Sends a request; `headers` are whole lines.
    ///
    /// # Panics
    /// If `curl` does not run or the server does not answer in HTTP.
    pub fn send(&self, method: &str, path: &str, headers: &[&str], body: Option<&Value>) -> Answer {
        self.try_send(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// As [`Client::send`], with curl's complaint where the server does not answer.
    ///
    /// # Errors
    /// If the server does not answer in HTTP within 30 s.
    ///
    /// # Panics
    /// If `curl` does not run.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        let mut command = Command::new("curl");
        command
            .args([
                "--silent",
                "--show-error",
                "--insecure",
                "--globoff",
                "--max-time",
                "30",
                "--request",
                method,
            ])
            .args(["--write-out", "\n%{http_code}"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !self.token.is_empty() {
            command.arg("--header").arg(format!("Authorization: Bearer {}", self.token));
        }
        for header in headers {
            command.arg("--header").arg(header);
        }
        if body.is_some() {
            command.args(["--header", "Content-Type: application/json", "--data-binary", "@-"]);
        }
        command.arg(format!("{}{path}", self.endpoint));
        let mut curl = command.spawn().expect("curl runs");
        let mut input = curl.stdin.take().expect("curl's input is piped");
        if let Some(body) = body {
            // An error here is a broken pipe: curl itself says why it ended.
            drop(input.write_all(body.to_string().as_bytes()));
        }
        drop(input);
        let output = curl.wait_with_output().expect("curl ends");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let output = String::from_utf8_lossy(&output.stdout);
        let (text, status) = output.rsplit_once('\n').expect("curl writes the status on a line of its own");
        let body = serde_json::from_str(text).unwrap_or(Value::Null);
        Ok(Answer { status: status.parse().expect("a numeric status"), text: text.to_owned(), body })
    }

    /// Reads a resource that must be there.
    ///
    /// # Panics
    /// If the answer is not 200.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        self.send("GET", path, &[], None).expect_ok()
    }

    /// Sends a body that must be accepted.
    ///
    /// # Panics
    /// If the answer is not 200.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.send("POST", path, &[], Some(body)).expect_ok()
    }

    /// Sends a change that must be accepted.
    ///
    /// # Panics
    /// If the answer is not 200.
    pub fn put(&self, path: &str, body: &Value) -> Value {
        self.send("PUT", path, &[], Some(body)).expect_ok()
    }

    /// Deletes a resource.
    ///
    /// # Panics
    /// If the answer is not 200.
    pub fn delete(&self, path: &str) {
        self.send("DELETE", path, &[], None).expect_ok();
    }
}

impl Answer {
    /// The body of a success.
    ///
    /// # Panics
    /// If the status is not 200.
    pub fn expect_ok(self) -> Value {
        assert_eq!(self.status, 200, "answer: {}", self.text);
        self.body
    }

    /// Checks a refusal: the HTTP status, and the gRPC code in the body.
    ///
    /// # Panics
    /// If the answer is another.
    pub fn expect_error(&self, status: u16, code: u64) {
        assert_eq!(self.status, status, "answer: {}", self.text);
        assert_eq!(self.body["code"].as_u64(), Some(code), "answer: {}", self.text);
        assert!(self.body["message"].as_str().is_some_and(|text| !text.is_empty()), "answer: {}", self.text);
        assert_eq!(self.body["error"], self.body["message"], "answer: {}", self.text);
    }
}
