//! Finds the route of a request.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use hyper::Method;

use super::error::ApiError;
use super::request::{Request, percent_decode};
use super::schema::Message;
use super::{Api, Reply};
use crate::auth::Caller;

/// One row of the route table: what the router matches, the server parses, and the OpenAPI document tells.
pub(crate) struct Route {
    /// The method.
    pub(crate) method: Method,
    /// The path, with `{name}` for a variable, which may be empty.
    pub(crate) path: &'static str,
    /// The contract's name of the operation.
    pub(crate) operation: &'static str,
    /// What the request says: path variables, and query or body.
    pub(crate) request: &'static Message,
    /// What a success answers.
    pub(crate) answer: &'static Message,
    /// The errors that the contract has for it.
    pub(crate) errors: &'static [u16],
    /// What answers.
    pub(crate) handler: Handler,
}

/// What answers a request.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    /// Anyone may ask.
    Open(fn(Rc<Api>, Option<Caller>, Request) -> Answer),
    /// Only who shows a token may ask.
    Token(fn(Rc<Api>, Caller, Request) -> Answer),
}

/// An answer under way, on the management thread.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Reply, ApiError>>>>;

/// All routes, taken apart once.
pub(crate) struct Router {
    routes: Vec<Compiled>,
}

/// Where a request goes.
pub(crate) struct Match {
    /// The row of the table.
    pub(crate) route: Rc<Route>,
    /// The path's variables.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// Why a request goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoMatch {
    /// No route has this path.
    Path,
    /// A route has this path with another method.
    Method,
    /// The path has a broken escape.
    Escape,
}

struct Compiled {
    route: Rc<Route>,
    segments: Vec<Segment>,
}

enum Segment {
    Literal(&'static str),
    Variable(&'static str),
}

impl Router {
    /// Compiles `routes`.
    pub(crate) fn new(routes: Vec<Route>) -> Self {
        let compile = |route: Route| Compiled { segments: take_apart(route.path), route: Rc::new(route) };
        let mut routes: Vec<Compiled> = routes.into_iter().map(compile).collect();
        // Literal segments win over variables, wherever the rows stand.
        routes.sort_by_key(|route| {
            route.segments.iter().map(|segment| matches!(segment, Segment::Variable(_))).collect::<Vec<_>>()
        });
        Self { routes }
    }

    /// The rows.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().map(|compiled| &*compiled.route)
    }

    /// Finds the route of `method` and the undecoded `path`.
    ///
    /// The path is decoded before it is cut, so that an encoded slash separates as a plain one does: no variable ever
    /// holds one.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Result<Match, NoMatch> {
        let path = percent_decode(path, false).ok_or(NoMatch::Escape)?;
        let segments: Vec<&str> = path.split('/').collect();
        let mut other_method = false;
        for route in &self.routes {
            let Some(variables) = route.match_path(&segments) else { continue };
            if route.route.method == *method {
                return Ok(Match { route: Rc::clone(&route.route), variables });
            }
            other_method = true;
        }
        Err(if other_method { NoMatch::Method } else { NoMatch::Path })
    }
}

impl Compiled {
    fn match_path(&self, segments: &[&str]) -> Option<Vec<(&'static str, String)>> {
        if segments.len() != self.segments.len() {
            return None;
        }
        let mut variables = Vec::new();
        for (segment, text) in self.segments.iter().zip(segments) {
            match segment {
                Segment::Literal(literal) if literal == text => {}
                Segment::Literal(_) => return None,
                Segment::Variable(name) => variables.push((*name, (*text).to_owned())),
            }
        }
        Some(variables)
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("routes", &self.routes.len()).finish()
    }
}

fn take_apart(path: &'static str) -> Vec<Segment> {
    let segment = |text: &'static str| match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(name) => Segment::Variable(name),
        None => Segment::Literal(text),
    };
    path.split('/').map(segment).collect()
}

#[cfg(test)]
mod test {
    use super::super::routes;
    use super::*;

    fn find(method: Method, path: &str) -> Result<Vec<(&'static str, String)>, NoMatch> {
        Router::new(routes::table()).find(&method, path).map(|found| found.variables)
    }

    #[test]
    fn a_trailing_slash_is_an_empty_variable() {
        let empty = find(Method::GET, "/api/v2/projects/p/volumes/").unwrap();
        assert_eq!(empty, [("projectName", "p".to_owned()), ("UUID", String::new())]);
        assert_eq!(find(Method::GET, "/api/v2/projects/p/volumes").unwrap().len(), 1);
    }

    #[test]
    fn unknown_paths_methods_and_escapes_are_told_apart() {
        assert_eq!(find(Method::GET, "/api/v2/nothing"), Err(NoMatch::Path));
        assert_eq!(find(Method::GET, "/api/v2/volumes/a%2Fb"), Err(NoMatch::Path));
        assert_eq!(find(Method::GET, "/api/v2/version/"), Err(NoMatch::Path));
        assert_eq!(find(Method::PATCH, "/api/v2/volumes"), Err(NoMatch::Method));
        assert_eq!(find(Method::POST, "/api/v2/volumes/x"), Err(NoMatch::Method));
        assert_eq!(find(Method::GET, "/api/v2/volumes/%zz"), Err(NoMatch::Escape));
        assert_eq!(find(Method::GET, "/api/v2/nodes/a%20b").unwrap(), [("UUID", "a b".to_owned())]);
    }
}
