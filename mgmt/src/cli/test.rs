//! The command line against a server over TLS: what it takes, what it prints, how it fails.

use super::*;
use crate::rest::test::{Bench, bench};
use crate::serve::files::test::Folder;

/// Runs a command line as a client of `bench` with the environment `environment`; output or failure, and exit code.
async fn ferrule_in(bench: &Bench, environment: &[(&str, &str)], words: &str) -> (String, u8) {
    let endpoint = format!("https://127.0.0.1:{}", bench.address.port());
    let mut words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    words.insert(0, "ferrule".to_owned());
    if !words.iter().any(|word| word.starts_with("--endpoint")) {
        words.extend(["--endpoint".to_owned(), endpoint]);
    }
    let environment: Vec<(String, String)> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    // A thread of its own, as the process that it is: the client has a runtime of its own.
    let run = move || {
        let find =
            |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let outcome = match grammar::parse(words.into_iter().map(OsString::from)) {
            Ok(Asked::Line(line)) => match line.command {
                Command::Client(command) => command.run(&find),
                _ => panic!("a command of the client"),
            },
            Ok(Asked::Row(row, matches)) => table::run(row, &matches.0, &matches.1, &find),
            Ok(Asked::Nothing) => panic!("a command"),
            Err(error) => Err(Failure::Usage(error)),
        };
        match outcome {
            Ok(text) => (text, 0),
            Err(failure) => (failure.to_string(), failure.exit_code()),
        }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Runs a command line with the administrator's token.
async fn ferrule(bench: &Bench, words: &str) -> (String, u8) {
    let token = bench.system.clone();
    ferrule_in(bench, &[("FERRULE_JWT", &token)], &format!("{words} --insecure-skip-tls-verify")).await
}

/// Replaces UUIDs that differ from run to run.
fn masked(text: &str) -> String {
    let is_uuid = |word: &str| word.len() == 36 && uuid::Uuid::try_parse(word).is_ok();
    let mask = |word: &str| if is_uuid(word) { "0".repeat(36) } else { word.to_owned() };
    text.split('\n')
        .map(|line| line.split(' ').map(mask).collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn volumes_are_printed_as_tables() {
    bench(async |bench| {
        let (made, code) = ferrule(&bench, "create volume --name v1 --size 4GiB --acl ALLOW_ANY").await;
        let uuid = "0".repeat(36);
        let head = "Name  UUID                                  State      Protection State  NSID  Size   Replicas  \
                    Compression  ACL                 Rebuild Progress";
        let row = "v1    UUID  Available  FullyProtected    1     4 GiB  1         false        \
                   values:\"ALLOW_ANY\"  None";
        let table = format!("{head}\n{}\n", row.replace("UUID", &uuid));
        assert_eq!((masked(&made), code), (table.clone(), 0));
        for words in [
            "list volumes",
            "list volume --name v1",
            "get volume --name v1",
            "list volumes --project-name default",
        ] {
            assert_eq!(masked(&ferrule(&bench, words).await.0), table, "{words}");
        }
        let (none, _) = ferrule(&bench, "list volumes --project-name other").await;
        assert_eq!(none.lines().count(), 1);
    });
}

#[test]
fn sites_are_printed_as_tables_and_fields() {
    bench(async |bench| {
        let nodes = "\
Name        UUID                                  State   NVMe endpoint   Failure domains   Local rebuild progress
server00-0  0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d  Active  127.0.0.1:4420  [server00 rack1]  None
";
        for words in [
            "list nodes",
            "get node --name server00-0",
            "get node --uuid 0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d",
        ] {
            assert_eq!(ferrule(&bench, words).await.0, nodes, "{words}");
        }
        let projects =
            "Name     UUID             Description\ndefault  uuid-of-default\nother    uuid-of-other\n";
        assert_eq!(ferrule(&bench, "list projects").await.0, projects);
        let credentials = "ID    Project  Type\nroot  default  RS256PubKey\n";
        assert_eq!(ferrule(&bench, "list credentials").await.0, credentials);
        bench.fake.connect("nqn.h");
        let hosts = "Host NQN  IP address        Volumes\nnqn.h     10.1.2.3,fe80::1\n";
        assert_eq!(ferrule(&bench, "list connected-hosts").await.0, hosts);
        assert_eq!(ferrule(&bench, "get connected-host --host-nqn nqn.h").await.0, hosts);
        assert_eq!(ferrule(&bench, "get version").await.0, "apiVersion  v2.0\n");
        let (cluster, _) = ferrule(&bench, "get cluster").await;
        assert!(cluster.lines().any(|line| line.split_whitespace().eq(["health.state", "OK"])), "{cluster}");
        assert!(ferrule(&bench, "get clusterinfo").await.0.contains("nvmeEndpoints"));
    });
}

#[test]
fn json_and_yaml_have_the_servers_fields() {
    bench(async |bench| {
        bench.create("v1").await;
        let (text, _) = ferrule(&bench, "list volumes -o json").await;
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(list, bench.get("/api/v2/volumes").await);
        let (text, _) = ferrule(&bench, "get clusterinfo --output yaml").await;
        let info: serde_json::Value = serde_norway::from_str(&text).unwrap();
        assert_eq!(info, bench.get("/api/v2/clusterinfo").await);
    });
}

#[test]
fn a_volume_is_made_changed_and_deleted() {
    bench(async |bench| {
        let words = "create volume --name v --size 8MiB --acl nqn.a,nqn.b --acl nqn.c --ip-acl 10.0.0.1 \
                     --compression --sector-size 512 --replica-count 1 --label k=1 --label l=2 -o json";
        let made: serde_json::Value = serde_json::from_str(&ferrule(&bench, words).await.0).unwrap();
        assert_eq!(made["acl"]["values"], serde_json::json!(["nqn.a", "nqn.b", "nqn.c"]));
        assert_eq!(made["IPAcl"]["values"], serde_json::json!(["10.0.0.1"]));
        assert_eq!((&made["compression"], &made["sectorSize"]), (&"true".into(), &512.into()));
        assert_eq!(made["labels"][1], serde_json::json!({"key": "l", "value": "2"}));
        let words = "update volume --name v --size 16MiB --acl ALLOW_NONE --compression false --new-name w --etag 1 -o json";
        let now: serde_json::Value = serde_json::from_str(&ferrule(&bench, words).await.0).unwrap();
        assert_eq!(
            (&now["name"], &now["size"], &now["ETag"]),
            (&"w".into(), &"16777216".into(), &"2".into())
        );
        assert_eq!(now["acl"]["values"], serde_json::json!(["ALLOW_NONE"]));
        let uuid = made["UUID"].as_str().unwrap();
        let shrink = format!("update volume --uuid {uuid} --size 8MiB");
        assert_eq!(ferrule(&bench, &shrink).await.1, 1);
        assert_eq!(ferrule(&bench, &format!("{shrink} --force")).await.1, 0);
        assert_eq!(ferrule(&bench, "delete volume --name w --etag 2").await.1, 1);
        assert_eq!(ferrule(&bench, &format!("delete volume --uuid {uuid}")).await, (String::new(), 0));
        let gone = ferrule(&bench, "get volume --name w").await;
        let (said, hint) = gone.0.split_once('\n').unwrap();
        assert_eq!((said, gone.1), ("volume w does not exist (HTTP 404)", 1));
        assert!(hint.starts_with("hint: `ferrule list`"), "{hint}");
    });
}

#[test]
fn a_volume_gets_its_policy_when_it_is_made_and_later() {
    bench(async |bench| {
        for name in ["gold", "silver"] {
            let words = format!("create qos-policy --name {name} --type iops --read-limit 1024");
            assert_eq!(ferrule(&bench, &words).await.1, 0);
        }
        let create = "create volume --name v --size 1MiB --acl ALLOW_ANY -o json";
        let read = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let made = read(ferrule(&bench, &format!("{create} --qos-policy-name gold")).await.0);
        assert_eq!(made["qosPolicyName"], "gold");
        let update = "update volume --name v -o json";
        let now = read(ferrule(&bench, &format!("{update} --qos-policy-name silver")).await.0);
        assert_eq!(now["qosPolicyName"], "silver");
        let gold = made["qosPolicyUUID"].as_str().unwrap();
        let now = read(ferrule(&bench, &format!("{update} --qos-policy-uuid {gold}")).await.0);
        assert_eq!(now["qosPolicyName"], "gold");
        let (said, code) = ferrule(&bench, &format!("{update} --qos-policy-name none")).await;
        assert!(code == 1 && said.contains("no policy"), "{said}");
        assert_eq!(ferrule(&bench, &format!("{create} --qos-policy-name a --qos-policy-uuid b")).await.1, 2);
    });
}

#[test]
fn credentials_are_registered_and_removed() {
    bench(async |bench| {
        let folder = Folder::new("credential");
        let file = folder.path().join("key.pem");
        std::fs::write(&file, crate::rest::test::KEY.public_pem()).unwrap();
        let create = format!("create credential --id c1 --type rsa256pubkey {}", file.display());
        let table = "ID  Project  Type\nc1  default  RS256PubKey\n";
        assert_eq!(ferrule(&bench, &create).await, (table.to_owned(), 0));
        assert_eq!(ferrule(&bench, &create).await.1, 1);
        assert!(ferrule(&bench, "get credential --id c1").await.0.contains("UserCreds"));
        assert_eq!(ferrule(&bench, "delete credential --id c1").await, (String::new(), 0));
        assert_eq!(ferrule(&bench, "get credential --id c1").await.1, 1);
        assert_eq!(ferrule(&bench, "create credential --id c1 /nonexistent").await.1, 2);
    });
}

#[test]
fn the_token_comes_from_flag_environment_or_file() {
    bench(async |bench| {
        let folder = Folder::new("token");
        let file = folder.path().join("system.jwt");
        std::fs::write(&file, format!("{}\n", bench.system)).unwrap();
        let at_file = format!("@{}", file.display());
        let config = folder.path().join("ferrule.yaml");
        std::fs::write(
            &config,
            format!("jwt: \"{at_file}\"\ninsecure-skip-tls-verify: true\noutput: json\n"),
        )
        .unwrap();
        let words = "list nodes --insecure-skip-tls-verify";
        for (environment, words) in [
            (vec![("FERRULE_JWT", bench.system.as_str())], words.to_owned()),
            (vec![("FERRULE_JWT", at_file.as_str())], words.to_owned()),
            (vec![("LIGHTOS_JWT", bench.system.as_str())], words.to_owned()),
            (vec![("FERRULE_JWT", bench.system.as_str()), ("LIGHTOS_JWT", "x.y.z")], words.to_owned()),
            (vec![("FERRULE_JWT", "x.y.z")], format!("{words} -J {at_file}")),
            (vec![], format!("{words} --jwt {}", bench.system)),
            (vec![], format!("list nodes --config {}", config.display())),
        ] {
            assert_eq!(ferrule_in(&bench, &environment, &words).await.1, 0, "{words}");
        }
        let home = folder.path().join("home");
        std::fs::create_dir_all(home.join(".config/ferrule")).unwrap();
        std::fs::copy(&config, home.join(".config/ferrule/ferrule.yaml")).unwrap();
        let (text, code) = ferrule_in(&bench, &[("HOME", home.to_str().unwrap())], "list nodes").await;
        assert!(code == 0 && text.starts_with('{'), "{text}");
    });
}

#[test]
fn a_tenants_token_works_in_its_own_project() {
    bench(async |bench| {
        let tenant = crate::rest::test::token("system:root", &["other:admin"]);
        let environment = [("FERRULE_JWT", tenant.as_str())];
        let words =
            "create volume --name mine --size 1MiB --acl ALLOW_ANY -o json --insecure-skip-tls-verify";
        let (text, code) = ferrule_in(&bench, &environment, words).await;
        assert!(code == 0 && text.contains("\"projectName\": \"other\""), "{text}");
        let (list, code) = ferrule_in(&bench, &environment, "list volumes --insecure-skip-tls-verify").await;
        assert_eq!((list.lines().count(), code), (2, 0));
    });
}

#[test]
fn a_token_with_roles_in_several_projects_works_in_the_default_one() {
    bench(async |bench| {
        bench.create("v1").await;
        let token = crate::rest::test::token("system:root", &["default:user", "kubernetes:user"]);
        let environment = [("FERRULE_JWT", token.as_str())];
        for words in ["create volume --name mine --size 1MiB --acl ALLOW_ANY", "list volumes"] {
            let words = format!("{words} --insecure-skip-tls-verify");
            let (text, code) = ferrule_in(&bench, &environment, &words).await;
            assert!(code == 0 && text.contains("mine"), "{words}: {text}");
        }
    });
}

#[test]
fn a_token_is_announced_in_the_second_half_of_its_life_and_in_its_last_week() {
    const DAY: u64 = 86_400;
    let said = |life: u64, left: u64| {
        let (exp, iat) = (100 * DAY, 100 * DAY - life);
        let claims = crate::auth::Claims { exp, iat, sub: "s", iss: "i", jti: "j", roles: &["default:user"] };
        let token = crate::auth::mint(&crate::rest::test::KEY, "default:root", &claims).unwrap();
        let words = ["ferrule", "list", "-J", &token, "nodes"].map(OsString::from);
        let Ok(Asked::Line(line)) = grammar::parse(words) else { panic!("a command") };
        let Command::Client(ClientCommand::List(verb)) = line.command else { panic!("a list") };
        verb.client.settle(&|_| None).unwrap().expiry_warning(exp - left).unwrap_or_default()
    };
    for (life, left, announced) in [
        (90 * DAY, 8 * DAY, ""),
        (90 * DAY, 6 * DAY, "6 days"),
        (4 * DAY, 3 * DAY, ""),
        (4 * DAY, 2 * DAY, "2 days"),
        (DAY, DAY - 60, ""),
        (DAY, DAY / 2 - 60, "11 hours"),
        (3600, 3000, "50 minutes"),
    ] {
        let said = said(life, left);
        assert!(said.contains(announced) && said.is_empty() == announced.is_empty(), "{life} {left}: {said}");
    }
}

#[test]
fn failures_have_their_codes_and_say_what_to_do() {
    bench(async |bench| {
        let no_token = ferrule_in(&bench, &[], "list nodes --insecure-skip-tls-verify").await;
        assert!(no_token.1 == 3 && no_token.0.contains("system.jwt"), "{no_token:?}");
        let wrong =
            ferrule_in(&bench, &[("FERRULE_JWT", "x")], "list nodes --insecure-skip-tls-verify").await;
        assert!(wrong.1 == 3 && wrong.0.contains("hint:"), "{wrong:?}");
        let untrusted = ferrule_in(&bench, &[("FERRULE_JWT", "x")], "list nodes").await;
        assert!(untrusted.1 == 3 && untrusted.0.contains("--ca-cert"), "{untrusted:?}");
        let nobody = ferrule(&bench, "list nodes --endpoint https://127.0.0.1:1").await;
        assert!(nobody.1 == 3 && nobody.0.contains("--endpoint"), "{nobody:?}");
        assert_eq!(ferrule(&bench, "list nodes --endpoint http://127.0.0.1:1").await.1, 3);
        for words in [
            "list",
            "list everything",
            "create volume --name v",
            "get volume",
            "get volume --name a --uuid b",
            "list nodes -o xml",
            "create volume --name v --size 1GiB --acl a --label x",
            "create volume --name v --size 1GiB --acl a --sector-size 1024",
            "list nodes --dial-timeout never",
            "list nodes --config /nonexistent.yaml",
        ] {
            assert_eq!(ferrule(&bench, words).await.1, 2, "{words}");
        }
        let refused = ferrule(&bench, "create volume --name v --size 1x --acl a").await;
        assert!(refused.1 == 1 && refused.0.contains("unit"), "{refused:?}");
    });
}

#[test]
fn a_certificate_beside_the_token_is_trusted() {
    bench(async |bench| {
        let folder = Folder::new("beside");
        std::fs::create_dir(folder.path().join("tls")).unwrap();
        std::fs::write(folder.path().join("tls/cert.pem"), crate::rest::test::certificate_pem()).unwrap();
        let token = folder.path().join("system.jwt");
        std::fs::write(&token, &bench.system).unwrap();
        let endpoint = format!("--endpoint https://localhost:{}", bench.address.port());
        let words = format!("list nodes --jwt @{} {endpoint}", token.display());
        let beside = ferrule_in(&bench, &[], &words).await;
        assert_eq!(beside.1, 0, "{}", beside.0);
        let words = format!(
            "list nodes --jwt {} {endpoint} --ca-cert {}",
            bench.system,
            folder.path().join("tls/cert.pem").display()
        );
        assert_eq!(ferrule_in(&bench, &[], &words).await.1, 0);
    });
}

#[test]
fn what_lbcli_documents_is_understood() {
    bench(async |bench| {
        for (kind, limits) in [("iops", "limitIOPS"), ("bw", "limitBw"), ("iops-per-gb", "limitIOPSPerGB")] {
            let words = format!(
                "create qos-policy --name {kind} --type {kind} --read-limit 256 --write-limit 512 --projects default -o json"
            );
            let (text, code) = ferrule(&bench, &words).await;
            assert_eq!(code, 0, "{text}");
            let made: serde_json::Value = serde_json::from_str(&text).unwrap();
            let set = made["QoSRateLimitPolicy"][limits].as_object().unwrap();
            assert_eq!(set.values().filter_map(serde_json::Value::as_u64).sum::<u64>(), 768, "{text}");
        }
        let (table, _) = ferrule(&bench, "list qos-policy").await;
        assert!(table.contains("iops-per-gb  512          256"), "{table}");
        for words in ["create qos-policy --name x --read-limit 7", "create qos-policy --name x --type mb"] {
            assert_eq!(ferrule(&bench, words).await.1, 2, "{words}");
        }
        let (flags, _) = ferrule(&bench, "list feature-flags").await;
        assert!(flags.starts_with("Feature Flag") && flags.contains("EventLog"), "{flags}");
        let words = "update cluster-config --parameter=ClusterName --value=20m";
        assert_eq!(ferrule(&bench, words).await.1, 0);
        let (values, _) = ferrule(&bench, "list cluster-config").await;
        let words: Vec<Vec<&str>> = values.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["Name", "Value"]);
        assert!(words.contains(&vec!["ClusterName", "20m"]), "{values}");
        let words = "create volume --name v --size 1MiB --acl a --placement-affinity";
        assert_eq!(ferrule(&bench, &format!("{words} fd:Server0|fd:rack1")).await.1, 0);
        // A node by itself has no other place, and says so.
        let (said, code) = ferrule(&bench, &format!("{words} fd:Server0|fd:rack2")).await;
        assert!(code == 1 && said.contains("no server here is in Server0 or rack2"), "{said}");
        // Before the verb as after it.
        let words = format!("-o json --project-name default -J {} list volumes", bench.system);
        let listed = ferrule_in(&bench, &[], &format!("--insecure-skip-tls-verify {words}")).await;
        assert!(listed.1 == 0 && listed.0.starts_with('{'), "{listed:?}");
    });
}

#[test]
fn all_events_are_listed_and_a_part_where_a_limit_is_given() {
    bench(async |bench| {
        for number in 0..1005 {
            bench.api.events.note(crate::events::Event {
                component: "Cluster".to_owned(),
                severity: "Info".to_owned(),
                service: "API".to_owned(),
                status: "Finished".to_owned(),
                code: number,
                ..crate::events::Event::default()
            });
            if number % 500 == 0 {
                bench.api.events.settle().await;
            }
        }
        bench.api.events.settle().await;
        let count = async |words: &str| ferrule(&bench, words).await.0.lines().count();
        assert_eq!(count("list events").await, 1006);
        assert_eq!(count("list events --limit 3").await, 4);
        assert_eq!(count("list events --next-token 1001").await, 6);
    });
}

#[test]
fn examples_of_what_every_server_has_are_right() {
    bench(async |bench| {
        let rows = table::all().filter(|row| ["feature-flag", "cluster-config"].contains(&row.noun));
        let mut count = 0;
        for row in rows {
            let words = format!("{} {} {}", row.verb, row.noun, row.example);
            let (said, code) = ferrule(&bench, &words).await;
            assert_eq!(code, 0, "{words}: {said}");
            count += 1;
        }
        assert_eq!(count, 6);
    });
}

#[test]
fn what_a_server_sends_cannot_steer_the_terminal() {
    let evil = serde_json::json!({"nodes": [{"name": "a\u{1b}[2Jb", "UUID": "x\ny"}]});
    let shape = output::Shape::List("nodes", output::NODES);
    let text = output::render(&evil, settings::Output::HumanReadable, shape).unwrap();
    assert!(text.contains("a?[2Jb") && text.contains("x?y"), "{text}");
}
