//! Cluster federation, clusters that are managed together: the contract has it, and this server answers that it is not
//! available to whoever may ask.

use std::rc::Rc;

use super::error::ApiError;
use super::request::Request;
use super::{Api, Reply};
use crate::auth::{Caller, Resource, Scope, Verb};

/// A login to a federation, or a cluster for it.
pub(super) async fn create(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    refuse(&caller, Verb::Create)
}

/// Its clusters, or what it is doing.
pub(super) async fn list(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    refuse(&caller, Verb::List)
}

/// Its credentials, or one thing that it is doing.
pub(super) async fn get(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    refuse(&caller, Verb::Get)
}

/// One of its clusters.
pub(super) async fn delete(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    refuse(&caller, Verb::Delete)
}

fn refuse(caller: &Caller, verb: Verb) -> Result<Reply, ApiError> {
    caller.permit(Resource::ClusterFederations, verb, Scope::Cluster)?;
    Err(ApiError::unimplemented("this cluster stands alone: cluster federation is not available"))
}
