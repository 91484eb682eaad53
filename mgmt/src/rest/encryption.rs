//! Encryption at rest, which the store does not have yet.

use std::rc::Rc;

use super::error::ApiError;
use super::request::Request;
use super::{Api, Reply};
use crate::auth::{Caller, Resource, Scope, Verb};

/// `POST /api/v2/cluster/encryption/enable`.
pub(super) async fn enable(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Encryptions, Verb::Update, Scope::Cluster)?;
    Err(ApiError::unimplemented("this server does not encrypt what it stores yet"))
}

/// `POST /api/v2/cluster/clusterRootKey/rotate`.
pub(super) async fn rotate(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Encryptions, Verb::Update, Scope::Cluster)?;
    Err(ApiError::unimplemented("encryption is not enabled, so there is no root key to rotate"))
}

/// `GET /api/v2/cluster/clusterRootkey`.
pub(super) async fn root_key(_: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Encryptions, Verb::Get, Scope::Cluster)?;
    Err(ApiError::unimplemented("encryption is not enabled, so there is no root key"))
}
