//! Walks the contract against a server: each row is asked, each answer held against its message and its statuses.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;

use super::super::router::Route;
use super::super::routes;
use super::super::schema;
use super::bench;
use super::bench::{Answer, Bench};

/// Operation, form of the path (0: the one without a project), values of the path's variables, query or body, status.
/// `$name` is what an earlier answer gave.
type Step = (&'static str, usize, &'static [&'static str], &'static str, u16);

const NODE: &str = "0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d";
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";
const VOLUME: &str =
    r#"{"name":"v","size":"1MiB","acl":{"values":["ALLOW_ANY"]},"replicaCount":1,"projectName":"default"}"#;

const SITE: &[Step] = &[
    ("GetVersion", 0, &[], "", 200),
    ("GetCluster", 0, &[], "", 200),
    ("GetClusterInfo", 0, &[], "", 200),
    ("ListNodes", 0, &[], "", 200),
    ("ListNodes", 0, &[], "?name=a&UUID=b", 400),
    ("GetNode", 0, &[NODE], "", 200),
    ("GetNode", 0, &[NOBODY], "", 404),
    ("ReplaceNode", 0, &[NODE], r#"{"TargetNodeUUID":"0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d"}"#, 400),
    ("ReplaceNode", 0, &[NOBODY], r#"{"TargetNodeUUID":"0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d"}"#, 404),
    ("ListHosts", 0, &[], "", 200),
    ("GetHost", 0, &["nqn.x"], "", 404),
    ("ListNvmeDevices", 0, &[], "", 200),
    ("GetNvmeDevice", 0, &["$serial"], "", 200),
    ("GetNvmeDevice", 0, &["none"], "", 404),
    ("UpdateNvmeDevice", 0, &["$serial"], r#"{"serverUUID":"$server","ledPattern":"blink"}"#, 400),
    ("UpdateNvmeDevice", 0, &["none"], r#"{"serverUUID":"$server","ledPattern":"locate"}"#, 404),
    ("UpdateNvmeDevice", 0, &["$serial"], r#"{"serverUUID":"$server","ledPattern":"locate"}"#, 501),
    ("AddNvmeDevice", 0, &[], r#"{"serialNumber":"$serial","nodeUUID":"$node"}"#, 409),
    ("AddNvmeDevice", 0, &[], r#"{"serialNumber":"none","nodeUUID":"$node"}"#, 404),
    ("AddNvmeDevice", 0, &[], "{}", 400),
    ("ListServers", 0, &[], "", 200),
    ("GetServer", 0, &["$server"], "", 200),
    ("GetServer", 0, &[NOBODY], "", 404),
    ("CreateServer", 0, &[], r#"{"serverEndpoints":["http://10.0.0.1:2380"],"serverUUID":"$server"}"#, 409),
    ("CreateServer", 0, &[], r#"{"serverEndpoints":["http://10.0.0.1:2380"]}"#, 501),
    ("CreateServer", 0, &[], "{}", 400),
    ("EnableServer", 0, &["$server"], "{}", 200),
    ("EnableServer", 0, &[NOBODY], "{}", 404),
    ("DisableServer", 0, &["$server"], "{}", 400),
    ("DisableServer", 0, &[NOBODY], "{}", 404),
    ("DeleteServer", 0, &["$server"], "", 400),
    ("DeleteServer", 0, &[NOBODY], "", 404),
    ("UpgradeServer", 0, &["$server"], r#"{"InstallPkgUri":"http://x"}"#, 501),
    ("UpgradeServer", 0, &["$server"], "{}", 400),
    ("UpgradeServer", 0, &[NOBODY], "{}", 404),
    ("UpgradeCluster", 0, &[], "{}", 400),
    ("UpgradeCluster", 0, &[], r#"{"InstallPkgUri":"http://x","UUIDs":["x"]}"#, 404),
    ("UpgradeCluster", 0, &[], r#"{"InstallPkgUri":"http://x"}"#, 501),
    ("EnableClusterEncryption", 0, &[], "{}", 501),
    ("EnableClusterEncryption", 0, &[], r#"{"keyStore":"x"}"#, 400),
    ("RotateClusterRootKey", 0, &[], "", 501),
    ("GetClusterRootKey", 0, &[], "?userPublicKey=AAAA", 501),
];

const CONFIGURATION: &[Step] = &[
    ("ListEvents", 0, &[], "?limit=1", 200),
    ("ListEvents", 1, &["default"], "", 200),
    ("ListEvents", 1, &["nowhere"], "", 404),
    ("ListEvents", 0, &[], "?severity=Info&componentType=Volume", 501),
    ("ListEvents", 0, &[], "?limit=x", 400),
    ("FetchLogs", 0, &[], "", 200),
    ("ListFeatureFlags", 0, &[], "", 200),
    ("GetFeatureFlag", 0, &["event-log"], "", 200),
    ("GetFeatureFlag", 0, &["x"], "", 400),
    ("EnableFeatureFlag", 0, &["EventLog"], "{}", 200),
    ("EnableFeatureFlag", 0, &["evict-data"], "{}", 400),
    ("DisableFeatureFlag", 0, &["evict-data"], "{}", 200),
    ("DisableFeatureFlag", 0, &["x"], "{}", 400),
    ("ListClusterConfigParams", 0, &[], "", 200),
    ("GetClusterConfigParam", 0, &["ClusterName"], "", 200),
    ("GetClusterConfigParam", 0, &["x"], "", 404),
    ("UpdateClusterConfigParam", 0, &["ClusterName"], r#"{"configParam":{"value":"mine"}}"#, 200),
    ("UpdateClusterConfigParam", 0, &["ClusterName"], r#"{"value":"mine"}"#, 400),
    ("UpdateClusterConfigParam", 0, &["x"], r#"{"configParam":{"value":"mine"}}"#, 404),
    ("CreateAdminEndpoint", 0, &[], r#"{"port":$port,"ips":["127.0.0.1"]}"#, 200),
    ("CreateAdminEndpoint", 0, &[], r#"{"port":$port,"ips":["127.0.0.1"]}"#, 409),
    ("CreateAdminEndpoint", 0, &[], r#"{"port":0,"ips":["127.0.0.1"]}"#, 400),
    ("CreateAdminEndpoint", 0, &[], r#"{"port":$port,"ips":["x"]}"#, 400),
    ("ListAdminEndpoints", 0, &[], "?port=$port", 200),
    ("GetAdminEndpoint", 0, &["$port"], "", 200),
    ("GetAdminEndpoint", 0, &["x"], "", 400),
    ("GetAdminEndpoint", 0, &["1"], "", 404),
    ("UpdateAdminEndpoint", 0, &["$port"], r#"{"ips":["127.0.0.2"]}"#, 200),
    ("UpdateAdminEndpoint", 0, &["1"], r#"{"ips":["127.0.0.2"]}"#, 404),
    ("DeleteAdminEndpoint", 0, &["$port"], "", 200),
    ("DeleteAdminEndpoint", 0, &["$port"], "", 404),
    ("EnableClusterInBandAuth", 0, &[], "{}", 501),
    ("DisableClusterInBandAuth", 0, &[], "{}", 200),
    ("CFLogin", 0, &[], "", 501),
    ("ListClusters", 0, &[], "", 501),
    ("AttachCluster", 0, &[], "{}", 501),
    ("DetachCluster", 0, &["x"], "", 501),
    ("GetCFServiceCredentials", 0, &[], "", 501),
    ("ListWorkflows", 0, &[], "", 501),
    ("GetWorkflow", 0, &["x"], "", 501),
];

const TENANTS: &[Step] = &[
    ("CreateProject", 0, &[], r#"{"name":"p","description":"d"}"#, 200),
    ("CreateProject", 0, &[], r#"{"name":"p"}"#, 409),
    ("CreateProject", 0, &[], r#"{"name":"system"}"#, 409),
    ("CreateProject", 0, &[], "{}", 400),
    ("ListProjects", 0, &[], "", 200),
    ("GetProject", 0, &["p"], "", 200),
    ("GetProject", 0, &["q"], "", 404),
    ("UpdateProject", 0, &["p"], "{}", 200),
    ("UpdateProject", 0, &["q"], "{}", 400),
    ("DeleteProject", 0, &["default"], "", 400),
    ("DeleteProject", 0, &["q"], "", 404),
    ("CreateCredential", 0, &["p"], r#"{"ID":"c","type":"RS256PubKey","payload":"$payload"}"#, 200),
    ("CreateCredential", 0, &["p"], r#"{"ID":"c","type":"RS256PubKey","payload":"$payload"}"#, 409),
    ("CreateCredential", 0, &["p"], r#"{"ID":"d","type":"RS256PubKey","payload":"x"}"#, 400),
    ("ListCredentials", 0, &["p"], "", 200),
    ("GetCredential", 0, &["p", "c"], "", 200),
    ("GetCredential", 0, &["p", "x"], "", 404),
    ("DeleteCredential", 0, &["p", "c"], "", 200),
    ("DeleteCredential", 0, &["p", "c"], "", 404),
    ("ListRoles", 0, &["p"], "", 200),
    ("GetRole", 0, &["p", "viewer"], "", 200),
    ("GetRole", 0, &["p", "x"], "", 404),
    (
        "CreateTrustedHost",
        0,
        &["p"],
        r#"{"name":"h","hostNqn":"nqn.h","labels":[{"key":"a","value":"b"}]}"#,
        200,
    ),
    ("CreateTrustedHost", 0, &["p"], r#"{"name":"h","hostNqn":"nqn.h"}"#, 409),
    ("CreateTrustedHost", 0, &["p"], r#"{"name":"i","hostNqn":"nqn.h"}"#, 400),
    ("DeleteProject", 0, &["p"], "", 400),
    ("ListTrustedHosts", 0, &[], "", 200),
    ("ListTrustedHosts", 1, &["p"], "", 200),
    ("ListTrustedHosts", 1, &["q"], "", 404),
    ("GetTrustedHost", 0, &["p", "h"], "", 200),
    ("GetTrustedHost", 0, &["p", "x"], "", 404),
    ("UpdateTrustedHost", 0, &["p", "h"], r#"{"authRequired":"true"}"#, 200),
    ("UpdateTrustedHost", 0, &["p", "h"], r#"{"authRequired":"x"}"#, 400),
    ("UpdateTrustedHost", 0, &["p", "x"], "{}", 404),
    (
        "SetTrustedHostSecret",
        0,
        &["p", "h"],
        r#"{"hostSecret":"$secret","targetSecretType":"AutoGenSecret"}"#,
        200,
    ),
    ("SetTrustedHostSecret", 0, &["p", "h"], r#"{"hostSecret":"x"}"#, 400),
    ("SetTrustedHostSecret", 0, &["p", "x"], r#"{"hostSecret":"$secret"}"#, 404),
    ("GetTrustedHostSecret", 0, &["p", "h"], "", 200),
    ("GetTrustedHostSecret", 0, &["p", "x"], "", 404),
    ("DeleteTrustedHost", 0, &["p", "h"], "", 200),
    ("DeleteTrustedHost", 0, &["p", "h"], "", 404),
    ("DeleteProject", 0, &["p"], "", 200),
    (
        "CreateIdpConfiguration",
        0,
        &[],
        r#"{"name":"i","idpIssuerURL":"https://127.0.0.1:1","type":"ADFS"}"#,
        200,
    ),
    (
        "CreateIdpConfiguration",
        0,
        &[],
        r#"{"name":"j","idpIssuerURL":"http://idp.example","type":"ADFS"}"#,
        400,
    ),
    ("ListIdpConfigurations", 0, &[], "", 200),
    ("GetIdpConfiguration", 0, &["i"], "", 200),
    ("GetIdpConfiguration", 0, &["x"], "", 404),
    ("UpdateIdpConfiguration", 0, &[], r#"{"name":"i","idpIssuerURL":"https://127.0.0.1:2"}"#, 200),
    ("UpdateIdpConfiguration", 0, &[], r#"{"name":"x"}"#, 404),
    (
        "CreateIdpClientConf",
        0,
        &[],
        r#"{"name":"c","clientId":"a","idpConfigurationName":"i","authzMode":"App"}"#,
        200,
    ),
    (
        "CreateIdpClientConf",
        0,
        &[],
        r#"{"name":"d","clientId":"a","idpConfigurationName":"i","authzMode":"User"}"#,
        400,
    ),
    ("ListIdpClientConfs", 0, &[], "", 200),
    ("GetIdpClientConf", 0, &["c"], "", 200),
    ("GetIdpClientConf", 0, &["x"], "", 404),
    ("UpdateIdpClientConf", 0, &["c"], r#"{"claimName":""}"#, 200),
    ("UpdateIdpClientConf", 0, &["c"], r#"{"claimName":"sub"}"#, 400),
    ("UpdateIdpClientConf", 0, &["x"], "{}", 404),
    (
        "CreateAuthMapEntry",
        0,
        &[],
        r#"{"name":"m","identifier":"a","scope":"system","role":"cluster-admin","idpConfigurationName":"i"}"#,
        200,
    ),
    (
        "CreateAuthMapEntry",
        0,
        &[],
        r#"{"name":"n","identifier":"a","scope":"default","role":"cluster-admin","idpConfigurationName":"i"}"#,
        400,
    ),
    ("ListAuthMapEntries", 0, &[], "", 200),
    ("GetAuthMapEntry", 0, &["m"], "", 200),
    ("GetAuthMapEntry", 0, &["x"], "", 404),
    ("UpdateAuthMapEntry", 0, &["m"], r#"{"scope":"default","role":"viewer"}"#, 200),
    ("UpdateAuthMapEntry", 0, &["m"], r#"{"role":"x"}"#, 400),
    ("UpdateAuthMapEntry", 0, &["x"], "{}", 404),
    ("EnableFederatedAuthentication", 0, &[], "{}", 200),
    ("DisableFederatedAuthentication", 0, &[], "{}", 200),
    ("DeleteIdpConfiguration", 0, &["i"], "", 400),
    ("DeleteAuthMapEntry", 0, &["m"], "", 200),
    ("DeleteAuthMapEntry", 0, &["m"], "", 404),
    ("DeleteIdpClientConf", 0, &["c"], "", 200),
    ("DeleteIdpClientConf", 0, &["c"], "", 404),
    ("DeleteIdpConfiguration", 0, &["i"], "", 200),
    ("DeleteIdpConfiguration", 0, &["i"], "", 404),
];

const VOLUMES: &[Step] = &[
    ("CreateVolume", 0, &[], VOLUME, 200),
    ("CreateVolume", 0, &[], VOLUME, 409),
    ("CreateVolume", 1, &["default"], VOLUME, 409),
    ("CreateVolume", 1, &["default"], "{}", 400),
    ("ListVolumes", 0, &[], "", 200),
    ("ListVolumes", 1, &["default"], "", 200),
    ("ListVolumes", 0, &[], "?limit=x", 400),
    ("GetVolume", 0, &["$volume"], "?projectName=default", 200),
    ("GetVolume", 1, &["default", "$volume"], "", 200),
    ("GetVolume", 1, &["default", NOBODY], "", 404),
    ("GetVolume", 1, &["default", "x"], "", 400),
    ("UpdateVolume", 0, &["$volume"], r#"{"projectName":"default","size":"2MiB"}"#, 200),
    ("UpdateVolume", 1, &["default", "$volume"], r#"{"size":"1MiB"}"#, 400),
    ("UpdateVolume", 1, &["default", NOBODY], "{}", 404),
    ("CreatePolicy", 0, &[], r#"{"name":"q","qoSRateLimitPolicy":{"limitBw":{"readBWLimit":1}}}"#, 200),
    ("CreatePolicy", 0, &[], r#"{"name":"q","qoSRateLimitPolicy":{"limitBw":{"readBWLimit":1}}}"#, 409),
    ("CreatePolicy", 0, &[], "{}", 400),
    ("ListPolicies", 0, &[], "", 200),
    ("ListPolicies", 0, &[], "?projectName=nowhere", 404),
    ("GetPolicy", 0, &["$policy"], "", 200),
    ("GetPolicy", 0, &[""], "?name=q", 200),
    ("GetPolicy", 0, &["x"], "", 404),
    ("UpdatePolicy", 0, &["$policy"], r#"{"description":"x"}"#, 200),
    ("UpdatePolicy", 0, &["x"], "{}", 404),
    (
        "CreateResourcePolicy",
        0,
        &["default"],
        r#"{"name":"s","resourceName":"v","schedulePolicy":{"snapshotSchedulePolicy":{"hourlySchedule":{"hoursInCycle":1}},"retentionTime":"2h"}}"#,
        200,
    ),
    (
        "CreateResourcePolicy",
        0,
        &["default"],
        r#"{"name":"s","resourceName":"v","schedulePolicy":{"snapshotSchedulePolicy":{"hourlySchedule":{"hoursInCycle":1}}}}"#,
        409,
    ),
    (
        "CreateResourcePolicy",
        0,
        &["default"],
        r#"{"name":"t","resourceName":"x","schedulePolicy":{"snapshotSchedulePolicy":{"hourlySchedule":{"hoursInCycle":1}}}}"#,
        404,
    ),
    ("CreateResourcePolicy", 0, &["default"], r#"{"name":"t","resourceName":"v"}"#, 400),
    ("ListResourcePolicies", 0, &["default"], "", 200),
    ("GetResourcePolicy", 0, &["default", "$schedule"], "", 200),
    ("GetResourcePolicy", 0, &["default", "x"], "", 404),
    ("UpdateResourcePolicy", 0, &["default", "$schedule"], r#"{"description":"x"}"#, 200),
    ("UpdateResourcePolicy", 0, &["default", "$schedule"], r#"{"schedulePolicy":{}}"#, 400),
    ("DeleteResourcePolicy", 0, &["default", "$schedule"], "", 200),
    ("DeleteResourcePolicy", 0, &["default", "$schedule"], "", 404),
    ("DeletePolicy", 0, &["$policy"], "", 200),
    ("DeletePolicy", 0, &["$policy"], "", 404),
    ("DeleteVolume", 1, &["default", NOBODY], "", 404),
    ("DeleteVolume", 0, &["$volume"], "?projectName=default", 200),
    ("DeleteVolume", 1, &["default", "$volume"], "", 404),
];

/// Rows that are asked elsewhere.
const SNAPSHOTS: &[&str] = &[
    "CreateSnapshot",
    "DeleteSnapshot",
    "GetSnapshot",
    "ListChangedBlocks",
    "ListSnapshots",
    "RollbackVolume",
];

struct Walk {
    bench: Rc<Bench>,
    table: Vec<Route>,
    known: BTreeMap<&'static str, String>,
    visited: BTreeSet<(String, &'static str)>,
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

    async fn take(&mut self, step: &Step) {
        let (operation, form, variables, rest, status) = *step;
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
        let mut path = segments.join("/");
        let rest = self.fill(rest);
        let body = if rest.starts_with('?') {
            path += &rest;
            None
        } else {
            Some(rest.as_str())
        };
        let (method, own) = (route.method.to_string(), (route.method.to_string(), route.path));
        let answer = self.bench.send(&self.bench.system, &method, &path, body).await;
        let documented = status == 200 || status == 501 || route.errors.contains(&status);
        assert!(documented, "{operation}: {status} is not of the contract");
        assert_eq!(answer.status, status, "{operation} {path} {rest}: {}", answer.text);
        if status == 200 && !std::ptr::eq(route.answer, &raw const schema::STREAM) {
            assert_eq!(schema::check(route.answer, &answer.json), Ok(()), "{operation}: {}", answer.text);
            self.learn(operation, &answer);
        } else if status != 200 {
            let code =
                [(400, 3), (404, 5), (409, 6), (501, 12)].into_iter().find(|(known, _)| *known == status);
            let given = answer.json["code"].as_u64();
            assert!(
                given == code.map(|(_, code)| code) || given == Some(9) && status == 400,
                "{}",
                answer.text
            );
        }
        self.visited.insert(own);
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
            "CreatePolicy" => drop(self.known.insert("policy", text(&answer.json["UUID"]))),
            "CreateResourcePolicy" => drop(self.known.insert("schedule", text(&answer.json["UUID"]))),
            _ => {}
        }
    }
}

#[test]
fn every_row_answers_with_its_statuses_and_fields() {
    bench(async |bench| {
        use base64::Engine as _;
        let mut known = BTreeMap::new();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        known.insert("port", listener.local_addr().unwrap().port().to_string());
        drop(listener);
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        known.insert("payload", encode(super::KEY.public_pem().as_bytes()));
        // 32 zero bytes and their CRC-32.
        known.insert("secret", "DHHC-1:00:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACtVQoZ:".to_owned());
        let table = routes::table();
        let mut walk = Walk { bench, table, known, visited: BTreeSet::new() };
        for step in [SITE, CONFIGURATION, TENANTS, VOLUMES].into_iter().flatten() {
            walk.take(step).await;
        }
        for route in routes::table().iter().filter(|route| route.path.starts_with("/api/v2/")) {
            let visited = walk.visited.contains(&(route.method.to_string(), route.path));
            let elsewhere = SNAPSHOTS.contains(&route.operation) || route.operation == "GetOpenApi";
            assert!(visited || elsewhere, "{} {}", route.method, route.path);
        }
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
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
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
