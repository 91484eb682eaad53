//! `GET /api/v2/events`, in both forms of its path.

use std::rc::Rc;

use serde::Serialize;

use super::error::ApiError;
use super::request::Request;
use super::schema::{self, enums, site};
use super::{Api, Reply};
use crate::auth::{Caller, Resource, Scope, Verb};
use crate::events::Event;

/// Lists events in the order in which they happened.
pub(super) async fn list(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = request.text("projectName");
    let scope = if project.is_empty() { Scope::Cluster } else { Scope::Project(project) };
    caller.permit(Resource::Events, Verb::List, scope)?;
    let filter = Filter::read(&request)?;
    if !project.is_empty() && api.directory.project(project).is_none() {
        return Err(ApiError::not_found(format!("project {project} does not exist")));
    }
    let mut events = Vec::new();
    let mut next_token = String::new();
    for found in api.events.list_from(filter.first) {
        if !filter.admits(&found.value) || !project.is_empty() && !found.value.is_of(project) {
            continue;
        }
        if events.len() == filter.limit {
            next_token = found.value.id;
            break;
        }
        events.push(found.value);
    }
    Reply::message(&site::LIST_EVENTS_RESPONSE, &EventList { events, next_token })
}

struct Filter {
    first: u64,
    limit: usize,
    since: Option<u64>,
    until: Option<u64>,
    severities: Vec<String>,
    component: String,
}

impl Filter {
    fn read(request: &Request) -> Result<Self, ApiError> {
        let time = |name: &str| match request.text(name) {
            "" => Ok(None),
            text => schema::time_ns(text).map(Some).ok_or_else(|| {
                ApiError::invalid(format!("{name}: expected a time such as 2026-01-01T12:00:00.000Z"))
            }),
        };
        let first = match request.text("nextToken") {
            "" => 0,
            text => text.parse().map_err(|_| ApiError::invalid("nextToken: no event has such an ID"))?,
        };
        let limit: i64 = request.text("limit").parse().unwrap_or_default();
        let limit = usize::try_from(limit).map_err(|_| ApiError::invalid("limit: not negative"))?;
        let severities = request.query.all("severity").into_iter().filter(|text| !text.is_empty());
        let severities: Vec<String> = severities.map(str::to_owned).collect();
        let component = request.text("componentType").to_owned();
        let known = |one: &schema::Enum, text: &str| one.values.iter().any(|(name, _)| *name == text);
        if let Some(wrong) = severities.iter().find(|text| !known(&enums::EVENT_EVENT_SEVERITY, text)) {
            return Err(ApiError::invalid(format!("severity: {wrong:?} is unknown")));
        }
        if !component.is_empty() && !known(&enums::EVENT_EVENT_TYPE, &component) {
            return Err(ApiError::invalid(format!("componentType: {component:?} is unknown")));
        }
        let filters =
            [!severities.is_empty(), !component.is_empty(), !request.text("projectName").is_empty()];
        if filters.iter().filter(|given| **given).count() > 1 {
            return Err(ApiError::unimplemented(
                "only one of componentType, projectName and severity can be given",
            ));
        }
        Ok(Self {
            first,
            limit: if limit == 0 { LIST_MAX } else { limit.min(LIST_MAX) },
            since: time("since")?,
            until: time("until")?,
            severities,
            component,
        })
    }

    fn admits(&self, event: &Event) -> bool {
        let time = schema::time_ns(&event.time).unwrap_or_default();
        self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time <= until)
            && (self.severities.is_empty() || self.severities.contains(&event.severity))
            && (self.component.is_empty() || self.component == event.component)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EventList {
    events: Vec<Event>,
    next_token: String,
}

/// Events in one answer, also where no limit is given.
const LIST_MAX: usize = 1000;
