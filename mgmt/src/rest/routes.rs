//! The route table.

use hyper::Method;

use super::router::{Handler, Route};
use super::{access, cluster, hosts, metrics, roles, volumes};

/// Every route that this server serves.
pub(super) fn table() -> Vec<Route> {
    [open(), site(), tenants(), volume_routes()].into_iter().flatten().collect()
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
