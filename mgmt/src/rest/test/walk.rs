//! Walks the contract against a server: each row is asked, each answer held against its message and its statuses.
//!
//! What succeeds is first asked by nobody, by someone without roles, with an ETag that is no longer current, and with a
//! data plane or a metadata store that fails, where the contract has a status for it.

mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use dataplane::ActionError;
use serde_json::Value;

use super::super::router::{Handler, Route};
use super::super::routes;
use super::super::schema;
use super::bench::{Answer, Bench, Fault, bench, pass, quiet_bench, token};
use steps::{CONFIGURATION, NOBODY, SITE, SNAPSHOTS, Step, TENANTS, UNREACHABLE, VOLUMES};

/// A request that is ready to be sent.
struct Asked {
    method: String,
    path: String,
    body: Option<String>,
    operation: &'static str,
    /// Method and path as the contract has them.
    row: (String, &'static str),
    errors: &'static [u16],
    answer: &'static schema::Message,
    open: bool,
}

struct Walk {
    bench: Rc<Bench>,
    table: Vec<Route>,
    known: BTreeMap<&'static str, String>,
    /// Statuses by row.
    seen: BTreeMap<(String, &'static str), BTreeSet<u16>>,
    /// A token that permits nothing.
    powerless: String,
}

impl Walk {
    fn route(&self, operation: &str, form: usize) -> &Route {
        let mut found: Vec<&Route> = self.table.iter().filter(|route| route.operation == operation).collect();
        found.sort_by_key(|route| route.path.starts_with("/api/v2/projects/"));
        found.get(form).unwrap_or_else(|| panic!("{operation} has no form {form}"))
    }

    fn fill(&self, text: &str) -> String {
        let known = self.known.iter();
        known.fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value))
    }

    fn ask(&self, step: &Step) -> Asked {
        let (operation, form, variables, rest, _) = *step;
        let route = self.route(operation, form);
        let mut variables = variables.iter();
        let segments: Vec<String> = route
            .path
            .split('/')
            .map(|segment| match segment.starts_with('{') {
                true => self.fill(variables.next().expect("a value for each variable")),
                false => segment.to_owned(),
            })
            .collect();
        let rest = self.fill(rest);
        let (query, body) =
            if rest.starts_with('?') { (rest.as_str(), None) } else { ("", Some(rest.clone())) };
        Asked {
            method: route.method.to_string(),
            path: segments.join("/") + query,
            body,
            operation,
            row: (route.method.to_string(), route.path),
            errors: route.errors,
            answer: route.answer,
            open: matches!(route.handler, Handler::Open(_)),
        }
    }

    async fn send(&self, asked: &Asked, token: &str, headers: &[(&str, &str)]) -> Answer {
        self.bench.send_with(token, &asked.method, &asked.path, headers, asked.body.as_deref()).await
    }

    async fn take(&mut self, step: &Step) {
        let (status, asked) = (step.4, self.ask(step));
        let documented = status == 200 || status == 501 || asked.errors.contains(&status);
        assert!(documented, "{}: {status} is not of the contract", asked.operation);
        if !self.seen.contains_key(&asked.row) {
            self.refuse(&asked).await;
        }
        if status != 200 {
            self.outdate(&asked, status).await;
        }
        let early = if status == 200 { self.provoke(&asked).await } else { None };
        let answer = match early {
            Some(answer) => answer,
            None => self.send(&asked, &self.bench.system, &[]).await,
        };
        assert_eq!(
            answer.status, status,
            "{} {} {:?}: {}",
            asked.operation, asked.path, asked.body, answer.text
        );
        self.note(&asked, &answer);
        if status == 200 && !std::ptr::eq(asked.answer, &raw const schema::STREAM) {
            assert_eq!(
                schema::check(asked.answer, &answer.json),
                Ok(()),
                "{}: {}",
                asked.operation,
                answer.text
            );
            self.learn(asked.operation, &answer);
        }
    }

    /// Asks as nobody, as someone without roles, and in a way that cannot be read.
    async fn refuse(&mut self, asked: &Asked) {
        if asked.errors.contains(&400) {
            let changes = matches!(asked.method.as_str(), "POST" | "PUT");
            let joint = if asked.path.contains('?') { '&' } else { '?' };
            let path = if changes { asked.path.clone() } else { format!("{}{joint}x=%zz", asked.path) };
            let body = changes.then_some("{");
            let broken = self.bench.send(&self.bench.system, &asked.method, &path, body).await;
            broken.expect_error(400, 3);
            self.note(asked, &broken);
        }
        if !asked.open {
            let nobody = self.send(asked, "", &[]).await;
            nobody.expect_error(401, 16);
            self.note(asked, &nobody);
            // Who is not of the whole cluster must name a project: only then is there a role to be asked for.
            let project = if asked.path == "/api/v2/volumes" { "?projectName=default" } else { "" };
            let path = format!("{}{project}", asked.path);
            let body = asked.body.as_deref();
            let powerless = self.bench.send(&self.powerless, &asked.method, &path, body).await;
            assert_eq!(powerless.status, 403, "{} {}: {}", asked.method, asked.path, powerless.text);
            self.note(asked, &powerless);
        }
    }

    /// Asks with an ETag that is no longer current, and with what fails below, for what is refused anyhow.
    async fn outdate(&mut self, asked: &Asked, status: u16) {
        if asked.errors.contains(&412) {
            let stale = self.send(asked, &self.bench.system, &[("if-match", "1000000")]).await;
            assert!(stale.status == 412 || stale.status == status, "{}", stale.text);
            if stale.status == 412 {
                self.note(asked, &stale);
            }
        }
        if asked.errors.contains(&500) {
            let (answer, _) = self.send_into(asked, ActionError::Device, Some(Fault::Broken)).await;
            assert!(answer.status == 500 || answer.status == status, "{}", answer.text);
            if answer.status == 500 {
                self.note(asked, &answer);
            }
        }
    }

    /// Provokes failures of a request that is right. Where a fault does not concern it, its answer.
    async fn provoke(&mut self, asked: &Asked) -> Option<Answer> {
        if asked.errors.contains(&412) && !asked.operation.contains("Encryption") {
            let stale = self.send(asked, &self.bench.system, &[("if-match", "1000000")]).await;
            if stale.status != 501 {
                stale.expect_error(412, 9);
                self.note(asked, &stale);
            }
        }
        for (error, fault, status) in [
            (ActionError::Device, Some(Fault::Broken), 500),
            (ActionError::Stopping, Some(Fault::Away), 503),
            (ActionError::Busy, None, 409),
        ] {
            if !asked.errors.contains(&status) {
                continue;
            }
            let (answer, unused) = self.send_into(asked, error, fault).await;
            if answer.status == status {
                self.note(asked, &answer);
                continue;
            }
            assert!(unused, "{} {} hid a fault: {}", asked.method, asked.path, answer.text);
            // Neither the data plane nor the metadata store concerns it, and what it changes is changed.
            if asked.method != "GET" {
                return Some(answer);
            }
        }
        None
    }

    /// Asks a data plane and a metadata store that fail; whether the data plane was not needed.
    async fn send_into(&self, asked: &Asked, error: ActionError, fault: Option<Fault>) -> (Answer, bool) {
        self.bench.api.view.expire();
        self.bench.fake.fail_any(error);
        self.bench.store.fail(fault);
        let answer = self.send(asked, &self.bench.system, &[]).await;
        self.bench.store.fail(None);
        (answer, self.bench.fake.calm())
    }

    /// Holds an error's body against its status, and remembers the status.
    fn note(&mut self, asked: &Asked, answer: &Answer) {
        let status = answer.status;
        if status != 200 {
            let codes: &[u64] = match status {
                400 => &[3, 9],
                401 => &[16],
                403 => &[7],
                404 => &[5],
                409 => &[6, 10],
                412 => &[9],
                500 => &[8, 13],
                501 => &[12],
                503 => &[14],
                _ => panic!("{} {}: {}", asked.method, asked.path, answer.text),
            };
            let given = answer.json["code"].as_u64().unwrap_or_default();
            assert!(codes.contains(&given), "{}", answer.text);
            answer.expect_error(status, given);
        }
        self.seen.entry(asked.row.clone()).or_default().insert(status);
    }

    fn learn(&mut self, operation: &str, answer: &Answer) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match operation {
            "ListNvmeDevices" => {
                self.known.insert("serial", text(&answer.json["NvmeDevices"][0]["serial"]));
                self.known.insert("server", text(&answer.json["NvmeDevices"][0]["serverUUID"]));
                self.known.insert("node", text(&answer.json["NvmeDevices"][0]["nodeUUID"]));
            }
            "CreateVolume" => drop(self.known.insert("volume", text(&answer.json["UUID"]))),
            "CreateSnapshot" => drop(self.known.insert("snapshot", text(&answer.json["UUID"]))),
            "CreatePolicy" => drop(self.known.insert("policy", text(&answer.json["UUID"]))),
            "CreateResourcePolicy" => drop(self.known.insert("schedule", text(&answer.json["UUID"]))),
            _ => {}
        }
    }

    /// Statuses that are documented and were never seen.
    fn unseen(&self) -> BTreeSet<(&'static str, u16)> {
        let mut unseen = BTreeSet::new();
        for ((method, path), seen) in &self.seen {
            let mut rows = self.table.iter();
            let row = rows.find(|row| row.method.as_str() == method && row.path == *path);
            let row = row.expect("what was asked is in the table");
            let left = row.errors.iter().filter(|status| !seen.contains(status));
            unseen.extend(left.map(|status| (row.operation, *status)));
        }
        unseen
    }

    /// Counts what was asked against what the contract has.
    fn report(&self) -> (usize, BTreeMap<u16, (usize, usize)>) {
        let mut rows = 0;
        let mut statuses: BTreeMap<u16, (usize, usize)> = BTreeMap::new();
        for route in routes::table() {
            if !(route.path.starts_with("/api/v2/") || route.path == "/cflogin")
                || route.operation == "GetOpenApi"
            {
                continue;
            }
            let seen = self.seen.get(&(route.method.to_string(), route.path));
            let seen = seen.unwrap_or_else(|| panic!("nobody asked {} {}", route.method, route.path));
            rows += 1;
            for status in route.errors.iter().chain(&[200]) {
                let count = statuses.entry(*status).or_default();
                count.1 += 1;
                count.0 += usize::from(seen.contains(status));
            }
        }
        (rows, statuses)
    }
}

#[test]
fn every_row_answers_with_its_statuses_and_fields() {
    quiet_bench(async |bench| {
        use base64::Engine as _;
        let mut known = BTreeMap::new();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        known.insert("port", listener.local_addr().unwrap().port().to_string());
        drop(listener);
        // The same port elsewhere is another program's.
        let port = known["port"].parse().unwrap();
        let _other = std::net::TcpListener::bind((std::net::Ipv4Addr::new(127, 0, 0, 3), port)).unwrap();
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        known.insert("payload", encode(super::KEY.public_pem().as_bytes()));
        // 32 zero bytes and their CRC-32.
        known.insert("secret", "DHHC-1:00:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACtVQoZ:".to_owned());
        let table = routes::table();
        let powerless = token("system:root", &[]);
        bench.fake.connect("nqn.h");
        let mut walk = Walk { bench, table, known, seen: BTreeMap::new(), powerless };
        for step in [SITE, CONFIGURATION, TENANTS, VOLUMES, SNAPSHOTS].into_iter().flatten() {
            walk.take(step).await;
        }
        let (rows, statuses) = walk.report();
        println!("{rows} of 109 pairs of method and path asked");
        for (status, (seen, documented)) in &statuses {
            println!("{status}: seen from {seen} of the {documented} that document it");
        }
        assert_eq!(rows, 109);
        let unseen = walk.unseen();
        let known = UNREACHABLE
            .iter()
            .flat_map(|(_, rows)| rows.iter())
            .flat_map(|(operation, statuses)| statuses.iter().map(|status| (*operation, *status)));
        let known: BTreeSet<(&str, u16)> = known.collect();
        let missed: Vec<_> = unseen.difference(&known).collect();
        assert!(missed.is_empty(), "nothing has provoked {missed:?}");
        let seen: Vec<_> = known.difference(&unseen).collect();
        assert!(seen.is_empty(), "can be provoked after all: {seen:?}");
    });
}

#[test]
fn every_row_refuses_strangers_wrong_bodies_and_wrong_etags() {
    bench(async |bench| {
        for route in routes::table().iter().filter(|route| route.path.starts_with("/api/v2/")) {
            if matches!(route.operation, "GetVersion" | "GetOpenApi") {
                continue;
            }
            let path =
                route.path.replace("{projectName}", "default").replace(['{', '}'], "").replace("port", "1");
            let method = route.method.as_str();
            bench.send("", method, &path, None).await.expect_error(401, 16);
            if matches!(method, "POST" | "PUT") && route.answer.name != "Stream" {
                let path = path.replace("/UUID", &format!("/{NOBODY}"));
                for body in ["{", "[]", "\"x\""] {
                    bench.send(&bench.system, method, &path, Some(body)).await.expect_error(400, 3);
                }
            }
        }
        // A change with a stale ETag changes nothing.
        let body = r#"{"name":"p"}"#;
        assert_eq!(bench.send(&bench.system, "POST", "/api/v2/projects", Some(body)).await.status, 200);
        let stale = [("if-match", "1000000")];
        let answer = bench.send_with(&bench.system, "DELETE", "/api/v2/projects/p", &stale, None).await;
        answer.expect_error(412, 9);
        let _ = bench.get("/api/v2/projects/p").await;
    });
}

#[test]
fn schedules_take_snapshots_at_their_time() {
    bench(async |bench| {
        bench.create("v").await;
        let body = r#"{"name":"s","resourceName":"v","schedulePolicy":{"snapshotSchedulePolicy":{"hourlySchedule":{"hoursInCycle":1}},"retentionTime":"90m"}}"#;
        let path = "/api/v2/projects/default/resourcePolicies";
        let made = bench.send(&bench.admin, "POST", path, Some(body)).await;
        assert_eq!(made.status, 200, "{}", made.text);
        let now = crate::events::now_ns();
        let hour = 3_600_000_000_000;
        let count = async || {
            let outcome = bench.api.plane.ask(dataplane::Action::ListSnapshots).await.unwrap();
            let dataplane::Outcome::Snapshots(snapshots) = outcome else { panic!("{outcome:?}") };
            assert!(snapshots.iter().all(|snapshot| snapshot.spec.retention_s == 5400));
            snapshots.len()
        };
        bench.api.take_due(now).await;
        assert_eq!(count().await, 0, "nothing is due yet");
        for (at, taken) in [(now + hour, 1), (now + hour, 1), (now + 2 * hour, 2), (now + 9 * hour, 3)] {
            bench.api.take_due(at).await;
            assert_eq!(count().await, taken);
        }
        bench.send(&bench.admin, "DELETE", "/api/v2/projects/default/volumes/?name=v", None).await;
        bench.api.view.freshen().await.unwrap();
        pass(Duration::from_secs(1)).await;
        bench.api.view.freshen().await.unwrap();
        bench.api.take_due(now + 10 * hour).await;
        let left = bench.get(path).await;
        assert_eq!(left["resourcePolicies"], serde_json::json!([]), "a schedule goes with its volume");
    });
}

#[test]
fn a_further_port_opens_and_closes() {
    bench(async |bench| {
        let listener = std::net::TcpListener::bind("127.0.0.3:0").unwrap();
        let address = listener.local_addr().unwrap();
        let body = format!(r#"{{"port":{},"ips":["127.0.0.3"]}}"#, address.port());
        let taken = bench.send(&bench.system, "POST", "/api/v2/adminEndpoints", Some(&body)).await;
        taken.expect_error(409, 6);
        drop(listener);
        let made = bench.send(&bench.system, "POST", "/api/v2/adminEndpoints", Some(&body)).await;
        assert_eq!(made.status, 200, "{}", made.text);
        assert!(tokio::net::TcpStream::connect(address).await.is_ok());
        let path = format!("/api/v2/adminEndpoints/{}", address.port());
        assert_eq!(bench.send(&bench.system, "DELETE", &path, None).await.status, 200);
        let closed = async || tokio::net::TcpStream::connect(address).await.is_err();
        while !closed().await {
            tokio::task::yield_now().await;
        }
    });
}
