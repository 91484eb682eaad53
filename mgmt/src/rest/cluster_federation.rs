//! Cluster federation, clusters that are managed together: the contract has it, and this server answers that it is not
//! available.

use std::rc::Rc;

use super::error::ApiError;
use super::request::Request;
use super::{Api, Reply};
use crate::auth::{Caller, Resource, Scope, Verb};

/// `POST /cflogin`.
pub(super) async fn login(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    refuse(&caller, Verb::Create)
}

/// `GET /api/v2/clusters`.
pub(super) async fn clusters(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    refuse(&caller, Verb::List)
}

/// `POST /api/v2/clusters`.
pub(super) async fn attach(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    refuse(&caller, Verb::Create)
}

/// `DELETE /api/v2/clusters/{cid}`.
pub(super) async fn detach(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    refuse(&caller, Verb::Delete)
}

/// `GET /api/v2/cf-service-credentials`.
pub(super) async fn credentials(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    refuse(&caller, Verb::Get)
}

/// `GET /api/v2/workflows`.
pub(super) async fn workflows(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    refuse(&caller, Verb::List)
}

/// `GET /api/v2/workflows/{workflowId}`.
pub(super) async fn workflow(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    refuse(&caller, Verb::Get)
}

fn refuse(caller: &Caller, verb: Verb) -> Result<Reply, ApiError> {
    caller.permit(Resource::ClusterFederations, verb, Scope::Cluster)?;
    Err(ApiError::unimplemented("this cluster stands alone: cluster federation is not available"))
}
