//! The route table.

use hyper::Method;

use super::router::{Handler, Route};
use super::{access, cluster, hosts, metrics, roles, users, vault, volumes};

/// Every route that this server serves.
pub(super) fn table() -> Vec<Route> {
    [open(), site(), tenants(), volume_routes(), token_routes()].into_iter().flatten().collect()
}

/// A row for whoever shows a token.
macro_rules! token {
    ($method:ident $path:literal => $handler:path) => {
        Route {
            method: Method::$method,
            path: $path,
            handler: Handler::Token(|api, caller, request| Box::pin($handler(api, caller, request))),
        }
    };
}

/// A row for everyone.
macro_rules! open {
    ($method:ident $path:literal => $handler:path) => {
        Route {
            method: Method::$method,
            path: $path,
            handler: Handler::Open(|api, caller, request| Box::pin($handler(api, caller, request))),
        }
    };
}

fn open() -> Vec<Route> {
    vec![
        open!(GET "/api/v2/version" => cluster::version),
        open!(GET "/healthz" => cluster::health),
        open!(GET "/metrics" => metrics::page),
    ]
}

fn site() -> Vec<Route> {
    vec![
        token!(GET "/api/v2/cluster" => cluster::cluster),
        token!(GET "/api/v2/clusterinfo" => cluster::cluster_info),
        token!(GET "/api/v2/nodes" => cluster::nodes),
        token!(GET "/api/v2/nodes/{UUID}" => cluster::node),
        token!(GET "/api/v2/connectedHosts" => hosts::list),
        token!(GET "/api/v2/connectedHosts/{hostNQN}" => hosts::get),
    ]
}

fn tenants() -> Vec<Route> {
    vec![
        token!(GET "/api/v2/projects" => access::list_projects),
        token!(GET "/api/v2/projects/{name}" => access::get_project),
        token!(GET "/api/v2/projects/{projectName}/roles" => roles::list),
        token!(GET "/api/v2/projects/{projectName}/roles/{name}" => roles::get),
        token!(POST "/api/v2/projects/{projectName}/credentials" => access::create_credential),
        token!(GET "/api/v2/projects/{projectName}/credentials" => access::list_credentials),
        token!(GET "/api/v2/projects/{projectName}/credentials/{ID}" => access::get_credential),
        token!(DELETE "/api/v2/projects/{projectName}/credentials/{ID}" => access::delete_credential),
    ]
}

fn volume_routes() -> Vec<Route> {
    vec![
        token!(POST "/api/v2/volumes" => volumes::create),
        token!(GET "/api/v2/volumes" => volumes::list),
        token!(GET "/api/v2/volumes/{UUID}" => volumes::get),
        token!(PUT "/api/v2/volumes/{UUID}" => volumes::update),
        token!(DELETE "/api/v2/volumes/{UUID}" => volumes::delete),
        token!(POST "/api/v2/projects/{projectName}/volumes" => volumes::create),
        token!(GET "/api/v2/projects/{projectName}/volumes" => volumes::list),
        token!(GET "/api/v2/projects/{projectName}/volumes/{UUID}" => volumes::get),
        token!(PUT "/api/v2/projects/{projectName}/volumes/{UUID}" => volumes::update),
        token!(DELETE "/api/v2/projects/{projectName}/volumes/{UUID}" => volumes::delete),
    ]
}

/// Outside the contract: users, logins, roles that issue tokens.
fn token_routes() -> Vec<Route> {
    vec![
        open!(GET "/login" => users::login_page),
        open!(POST "/login" => users::log_in),
        open!(POST "/logout" => users::log_out),
        token!(GET "/auth/users" => users::list),
        token!(POST "/auth/users/{name}" => users::put),
        token!(DELETE "/auth/users/{name}" => users::delete),
        token!(POST "/auth/users/{name}/jwt" => users::issue),
        token!(POST "/auth/revocations" => users::revoke),
        token!(GET "/v1/jwt/roles" => vault::list),
        token!(GET "/v1/jwt/roles/{name}" => vault::read),
        token!(POST "/v1/jwt/roles/{name}" => vault::write),
        token!(PUT "/v1/jwt/roles/{name}" => vault::write),
        token!(DELETE "/v1/jwt/roles/{name}" => vault::delete),
        token!(POST "/v1/jwt/issue/{name}" => vault::issue),
        token!(PUT "/v1/jwt/issue/{name}" => vault::issue),
        token!(GET "/jwt/roles" => vault::list),
        token!(GET "/jwt/roles/{name}" => vault::read),
        token!(POST "/jwt/roles/{name}" => vault::write),
        token!(PUT "/jwt/roles/{name}" => vault::write),
        token!(DELETE "/jwt/roles/{name}" => vault::delete),
        token!(POST "/jwt/issue/{name}" => vault::issue),
        token!(PUT "/jwt/issue/{name}" => vault::issue),
    ]
}
