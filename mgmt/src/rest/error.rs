//! The one error type of the REST interface, and the one place where other errors become one.

use dataplane::ActionError;
use hyper::StatusCode;
use serde::Serialize;

use crate::auth::{Denied, TokenError};
use crate::directory::DirectoryError;
use crate::metadata::StoreError;
use crate::size::SizeError;

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// The gRPC code in the body.
    pub(crate) code: Code,
    /// What is wrong and, where it helps, what to do.
    pub(crate) message: String,
}

/// gRPC status codes, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The request took too long.
    DeadlineExceeded = 4,
    /// The request is wrong in itself.
    InvalidArgument = 3,
    /// There is no such thing.
    NotFound = 5,
    /// The name is taken.
    AlreadyExists = 6,
    /// The caller's roles do not allow it.
    PermissionDenied = 7,
    /// Something is full.
    ResourceExhausted = 8,
    /// The resource is in another state, or has changed.
    FailedPrecondition = 9,
    /// Another operation is under way.
    Aborted = 10,
    /// This server does not do it.
    Unimplemented = 12,
    /// The server failed.
    Internal = 13,
    /// Not now.
    Unavailable = 14,
    /// The token is missing or wrong.
    Unauthenticated = 16,
}

/// The body of an error.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody<'a> {
    error: &'a str,
    code: u8,
    message: &'a str,
}

impl ApiError {
    /// A request that is wrong in itself.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, message)
    }

    /// A thing that is not there.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, message)
    }

    /// A token that is missing or wrong.
    pub(crate) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, message)
    }

    /// Something that this server does not do.
    pub(crate) fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, Code::Unimplemented, message)
    }

    /// A state that does not allow it.
    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::FailedPrecondition, message)
    }

    /// A name that is taken.
    pub(crate) fn exists(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, Code::AlreadyExists, message)
    }

    /// A failure of the server; details belong in the log.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, message)
    }

    /// An ETag that is no longer current.
    pub(crate) fn etag_mismatch(current: u64) -> Self {
        let message = format!("the resource has changed: its ETag is now {current}");
        Self::new(StatusCode::PRECONDITION_FAILED, Code::FailedPrecondition, message)
    }

    /// Another operation on the same resource is under way.
    pub(crate) fn busy() -> Self {
        Self::new(StatusCode::CONFLICT, Code::Aborted, "another operation on this resource is in progress")
    }

    /// Another change of the same things came first: with a fresh look, this one may still be right.
    pub(crate) fn outrun() -> Self {
        let message = "another change came first; read the resource again";
        Self::new(StatusCode::CONFLICT, Code::Aborted, message)
    }

    /// Any error.
    pub(crate) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The body that tells it.
    pub(crate) fn body(&self) -> ErrorBody<'_> {
        ErrorBody { error: &self.message, code: self.code as u8, message: &self.message }
    }
}

impl From<ActionError> for ApiError {
    fn from(error: ActionError) -> Self {
        let message = error.to_string();
        match error {
            ActionError::NotFound | ActionError::SnapshotNotFound => Self::not_found(message),
            ActionError::Exists => Self::new(StatusCode::CONFLICT, Code::AlreadyExists, message),
            ActionError::RevisionMismatch { current } => Self::etag_mismatch(current),
            ActionError::Busy => Self::busy(),
            ActionError::WrongState(_) => {
                Self::new(StatusCode::BAD_REQUEST, Code::FailedPrecondition, message)
            }
            ActionError::Invalid { .. } => Self::invalid(message),
            ActionError::CapacityExceeded(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::ResourceExhausted, message)
            }
            ActionError::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message),
            ActionError::Device => Self::internal(message),
            ActionError::Drive(_) => Self::new(StatusCode::BAD_REQUEST, Code::FailedPrecondition, message),
        }
    }
}

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        let message = error.to_string();
        match error {
            DirectoryError::Exists(_) => Self::new(StatusCode::CONFLICT, Code::AlreadyExists, message),
            DirectoryError::NotFound(_) => Self::not_found(message),
            DirectoryError::Key(_) | DirectoryError::Base64 | DirectoryError::NoProject(_) => {
                Self::invalid(message)
            }
            DirectoryError::Full(_) => Self::new(StatusCode::BAD_REQUEST, Code::ResourceExhausted, message),
            DirectoryError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } => Self::outrun(),
            error @ StoreError::Unavailable(_) => {
                tracing::warn!(%error, "the metadata store is away");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, error.to_string())
            }
            error => {
                tracing::error!(error = &error as &dyn std::error::Error, "the metadata store failed");
                Self::internal("the metadata store failed; the server's log says why")
            }
        }
    }
}

impl From<Denied> for ApiError {
    fn from(Denied: Denied) -> Self {
        let message = "the token's roles do not allow this";
        Self::new(StatusCode::FORBIDDEN, Code::PermissionDenied, message)
    }
}

impl From<TokenError> for ApiError {
    fn from(_: TokenError) -> Self {
        Self::unauthenticated("the token is invalid or has expired, or its credential does not exist")
    }
}

impl From<SizeError> for ApiError {
    fn from(error: SizeError) -> Self {
        Self::invalid(format!("size: {error}"))
    }
}
