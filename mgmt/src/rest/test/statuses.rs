//! Statuses that do not depend on a resource: tokens, permissions, paths, methods, what is not supported yet.

use super::bench;
use super::bench::token;

/// Every route of this server behind a token: method, path, body, then the statuses for an administrator of the
/// project, for its viewer, and for an administrator of another project.
const ROUTES: &[(&str, &str, u16, u16, u16)] = &[
    ("GET", "/api/v2/cluster", 403, 403, 403),
    ("GET", "/api/v2/clusterinfo", 200, 200, 200),
    ("GET", "/api/v2/nodes", 200, 200, 200),
    ("GET", "/api/v2/nodes/0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d", 200, 200, 200),
    ("GET", "/api/v2/connectedHosts", 403, 403, 403),
    ("GET", "/api/v2/connectedHosts/x", 403, 403, 403),
    ("GET", "/api/v2/projects", 200, 200, 200),
    ("GET", "/api/v2/projects/default", 200, 200, 403),
    ("GET", "/api/v2/projects/default/credentials", 200, 403, 403),
    ("GET", "/api/v2/projects/default/credentials/root", 200, 403, 403),
    ("POST", "/api/v2/projects/default/credentials", 400, 403, 403),
    ("DELETE", "/api/v2/projects/default/credentials/x", 404, 403, 403),
    ("GET", "/api/v2/projects/system/credentials", 403, 403, 403),
    ("GET", "/api/v2/projects/default/roles", 200, 200, 403),
    ("GET", "/api/v2/projects/default/roles/admin", 200, 200, 403),
    ("GET", "/api/v2/projects/default/roles/x", 404, 404, 403),
    ("GET", "/api/v2/projects/default/volumes", 200, 200, 403),
    ("GET", "/api/v2/projects/default/volumes/?name=x", 404, 404, 403),
    ("POST", "/api/v2/projects/default/volumes", 400, 403, 403),
    ("PUT", "/api/v2/projects/default/volumes/00000000-0000-4000-8000-000000000000", 404, 403, 403),
    ("DELETE", "/api/v2/projects/default/volumes/00000000-0000-4000-8000-000000000000", 404, 403, 403),
    ("GET", "/api/v2/volumes?projectName=default", 200, 200, 403),
    ("GET", "/api/v2/volumes", 400, 400, 400),
    ("GET", "/api/v2/volumes/?name=x&projectName=default", 404, 404, 403),
    ("DELETE", "/api/v2/volumes/?name=x&projectName=default", 404, 403, 403),
];

#[test]
fn roles_open_what_the_table_says() {
    bench(async |bench| {
        let other = token("system:root", &["other:admin"]);
        for (method, path, admin, viewer, stranger) in ROUTES {
            for (token, expected) in [(&bench.admin, admin), (&bench.viewer, viewer), (&other, stranger)] {
                let answer = bench.send(token, method, path, None).await;
                assert_eq!(answer.status, *expected, "{method} {path}: {}", answer.text);
                match expected {
                    403 => answer.expect_error(403, 7),
                    404 => answer.expect_error(404, 5),
                    400 => answer.expect_error(400, 3),
                    _ => {}
                }
            }
            let answer = bench.send("", method, path, None).await;
            answer.expect_error(401, 16);
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            bench.send("x.y.z", method, path, None).await.expect_error(401, 16);
        }
    });
}

#[test]
fn a_token_is_needed_in_the_right_form() {
    bench(async |bench| {
        let system = bench.system.clone();
        for (value, status) in [
            (format!("Bearer {system}"), 200),
            (format!("bearer  {system} "), 200),
            (system.clone(), 401),
            (format!("Basic {system}"), 401),
            ("Bearer ".to_owned(), 401),
            ("Bearer".to_owned(), 401),
        ] {
            let answer =
                bench.send_with("", "GET", "/api/v2/nodes", &[("authorization", &value)], None).await;
            assert_eq!(answer.status, status, "{value}");
        }
    });
}

#[test]
fn a_project_token_that_claims_the_cluster_is_forbidden() {
    bench(async |bench| {
        let claiming = token("default:root", &["system:cluster-admin", "other:admin"]);
        bench.send(&claiming, "GET", "/api/v2/cluster", None).await.expect_error(403, 7);
        let path = "/api/v2/projects/other/volumes";
        bench.send(&claiming, "GET", path, None).await.expect_error(403, 7);
        let without = token("default:root", &[]);
        bench.send(&without, "GET", "/api/v2/projects", None).await.expect_error(403, 7);
    });
}

#[test]
fn unknown_paths_and_methods_get_plain_text() {
    bench(async |bench| {
        for (method, path, status, text) in [
            ("GET", "/", 404, "Not Found\n"),
            ("GET", "/api/v2", 404, "Not Found\n"),
            ("GET", "/api/v2/volumes/a%2Fb", 404, "Not Found\n"),
            ("GET", "/api/v2/Version", 404, "Not Found\n"),
            ("PATCH", "/api/v2/volumes", 405, "Method Not Allowed\n"),
            ("POST", "/api/v2/volumes/x", 405, "Method Not Allowed\n"),
            ("POST", "/api/v2/version", 405, "Method Not Allowed\n"),
        ] {
            let answer = bench.send("", method, path, Some("{}")).await;
            assert_eq!((answer.status, answer.text.as_str()), (status, text), "{method} {path}");
            assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
            assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        }
        bench.send(&bench.system, "GET", "/api/v2/nodes/%zz", None).await.expect_error(400, 3);
        bench.send(&bench.system, "GET", "/api/v2/nodes?a=%zz", None).await.expect_error(400, 3);
    });
}
